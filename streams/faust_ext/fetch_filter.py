"""Filters that tell aiokafka's fetcher of which partitions it should return records."""

from collections.abc import Container
from typing import Protocol, cast

from faust.types import TP

#: How long (seconds) a fetch waits before it reads the filter again, which cannot notify it. The shorter time is for
#: while a partition is held back until the stream's queue has drained, which takes a batch or two. Its records, fetched
#: already, keep the fetcher from asking that broker for others.
LOOK_S, LOOK_HELD_BACK_S = 0.1, 0.005


class FetchingConsumer(Protocol):
    """The state of a consumer that decides what is fetched."""

    flow_active: bool

    @property
    def holds_back(self) -> bool:
        """Whether any partition is not fetched for now."""

    def is_paused(self, tp: TP) -> bool:
        """Return whether a partition is not fetched for now."""


class FetchFilter:
    """The partitions to fetch at the moment of the question. Records of the others stay in the fetcher.

    A fetch may wait for a second, and a whole rebalance may pass meanwhile. Faust hands it the set of active
    partitions, which is empty then. To aiokafka an empty set means all: it would return records that Faust drops, and
    move its position past them.
    """

    def __init__(self, consumer: FetchingConsumer, active: Container[TP]) -> None:
        self._consumer = consumer
        self._active = active

    def __contains__(self, tp: object) -> bool:
        return self._consumer.flow_active and tp in self._active and not self._consumer.is_paused(cast("TP", tp))

    @property
    def look_s(self) -> float:
        """How long (seconds) to wait before the filter is read again."""
        return LOOK_HELD_BACK_S if self._consumer.holds_back else LOOK_S


class SinglePartitionFilter:
    """Lets one partition through: the first one asked for that is to be fetched and not among `passed`.

    It is `found` afterwards; None if there was none.
    """

    def __init__(self, to_fetch: FetchFilter, passed: Container[object]) -> None:
        self._to_fetch = to_fetch
        self._passed = passed
        self.found: object = None

    def __contains__(self, tp: object) -> bool:
        if self.found is None and tp not in self._passed and tp in self._to_fetch:
            self.found = tp
        return self.found is not None and tp == self.found
