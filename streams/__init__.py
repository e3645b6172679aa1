"""Everything that knows Kafka, files or the clock; the decisions are made in `models`.

A worker consumes the input topics, keeps state in a changelog and produces decisions. Stream time advances with
watermarks.
"""
