"""History decided in bulk by one pipeline: read, shuffle by customer, decide, sort, write. Files or topics, resumable.

The engine is the worker's; the processor of `streams.partition` is used only for policies in which customers depend on
each other. Nothing here belongs to a consumer group, and only `publish` and `bootstrap` produce to topics.
"""
