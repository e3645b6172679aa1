"""The job of rfm.yaml as a user of Faust, of Quix Streams or of Kafka Streams would write it.

What runs in a peer's process knows nothing of tidemark. Each program is started as `python -m tests.bench.peers.NAME`
with the arguments of `tests.bench.peers.arguments`; the Java one is in tests/bench/kafka_streams.
"""
