"""A worker context in which one fake stands for the whole app, and the chunks that come through it."""

from types import SimpleNamespace
from typing import Any

from models.events import Topic
from streams.faust_ext.chunk import Chunk
from streams.worker.context import WorkerContext


def context_of(fake: Any, **parts: Any) -> WorkerContext:
    """Return a context whose store, consumer and producer are one fake; topics are named by their labels."""
    given: dict[str, Any] = {
        "store": lambda: fake,
        "consumer": lambda: fake,
        "producer": lambda: fake,
        "inputs": {topic.label: topic for topic in Topic},
        "name_of": str,
        "changelog": "changelog",
        "ticks": "ticks",
        "read_changelog": lambda *_: None,
    }
    return WorkerContext(**(given | parts))


def chunk(first: int, last: int, epoch: int = 0, number: int = 0, topic: str = "orders") -> Chunk:
    """Return a chunk of records with the offsets from `first` to `last`."""

    def record(offset: int) -> Any:
        return SimpleNamespace(
            topic=topic, partition=0, offset=offset, timestamp=1_000, timestamp_type=0, headers=(), key=b"k", value=b"v"
        )

    return Chunk([record(offset) for offset in range(first, last + 1)], epoch, number)
