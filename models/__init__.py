"""The pure core of tidemark: events in, decisions out.

Nothing here knows Faust, Kafka, the clock, randomness or files; import-linter enforces this. Time and bytes are
arguments, decisions are returned, and `streams/` acts on them.
"""
