"""The job of rfm.yaml as a user of Faust, Quix Streams or Kafka Streams would write it.

A peer's process does not import tidemark. Each program is started as `python -m tests.bench.peers.NAME`
with the arguments of `tests.bench.peers.arguments`; the Java one is in tests/bench/kafka_streams.
"""
