"""The Faust shell around the core: topics in, decisions out, state in a changelog, time by ticks.

Everything that knows Kafka, the clock or files lives here; what decides lives in `models`.
"""
