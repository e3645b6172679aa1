"""The pure core of tidemark: events in, decisions out.

Nothing here knows Faust, Kafka, the clock, randomness or files. Time is an argument, bytes are an
argument, and what is decided is returned; `streams/` acts on it. import-linter enforces this.
"""
