"""The broker that a benchmark runs on: the embedded one, or Apache Kafka if TIDEMARK_BENCH_BROKER=kafka."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models.errors import UnusableInput
from streams.demo.broker import EmbeddedBroker

VARIABLE = "TIDEMARK_BENCH_BROKER"
_KINDS = {"embedded": "embedded broker", "kafka": "Apache Kafka"}


def kind() -> str:
    """Return the name of the broker for titles. Raises UnusableInput for an unknown broker."""
    found = os.environ.get(VARIABLE, "embedded")
    if found not in _KINDS:
        raise UnusableInput(f"{VARIABLE}: found {found!r}, allowed are {', '.join(_KINDS)}")
    return _KINDS[found]


@contextmanager
def broker(directory: Path) -> Iterator[str]:
    """Yield the address of an empty broker; `directory` is for its data."""
    if kind() == _KINDS["embedded"]:
        with EmbeddedBroker() as embedded:
            yield embedded.address
    else:
        from tests.kafka.cluster import KafkaCluster

        with KafkaCluster(directory) as cluster:
            yield cluster.bootstrap
