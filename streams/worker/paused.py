"""Chunks that lie beyond a day's end which is not decided yet: they are parked until it is, in the order they came.

Where cut-offs are computed, a backlog would otherwise be read far ahead of what may be decided, into the rows of its
customers. What is parked counts as unread; it is as much as one stream's queue holds, since no more is fetched of a
partition meanwhile.
"""

import asyncio
from bisect import bisect_left
from collections import deque
from collections.abc import Callable

from faust.types import TP

from streams.faust_ext.consumer import Chunk


class Paused:
    """What is parked, by the partition of its topic. `wanted` is set by what is: a tick should come soon."""

    def __init__(self, pause: Callable[[TP, bool], None]) -> None:
        """`pause(tp, yes)` has a partition fetched no more, or again."""
        self.wanted = asyncio.Event()
        self._pause = pause
        self._chunks: dict[TP, deque[Chunk]] = {}

    def __contains__(self, tp: object) -> bool:
        return tp in self._chunks

    def of(self, number: int) -> list[TP]:
        """Return whose chunks are parked among the topics of a partition."""
        return [tp for tp in self._chunks if tp.partition == number]

    def append(self, tp: TP, chunk: Chunk) -> None:
        """Park a chunk behind the others of its partition."""
        self._parking(tp).append(chunk)

    def put_back(self, tp: TP, chunk: Chunk) -> None:
        """Park what is left of a chunk, before the others of its partition."""
        self._parking(tp).appendleft(chunk)

    def take(self, tp: TP) -> Chunk:
        """Return the first records of a partition, parked no longer; after the last ones, more are fetched.

        They are as many as the largest chunk has: what is left of one is made up from the next. The larger a batch, the
        oftener its customers come in it.
        """
        chunks = self._chunks[tp]
        most = max(len(chunk.records) for chunk in chunks)
        chunk = chunks.popleft()
        records = list(chunk.records)
        while chunks and len(records) < most and chunks[0].records[0].offset == records[-1].offset + 1:
            following = chunks.popleft()
            more = most - len(records)
            records += following.records[:more]
            if more < len(following.records):
                chunks.appendleft(following._replace(records=following.records[more:]))
        if not chunks:
            self.drop(tp)
        return chunk._replace(records=records)

    def drop(self, tp: TP) -> None:
        """Forget the chunks of a partition: they are fetched again, by us or by another."""
        if self._chunks.pop(tp, None) is not None:
            self._pause(tp, False)

    def clear(self) -> None:
        """Forget all chunks."""
        for tp in list(self._chunks):
            self.drop(tp)

    def _parking(self, tp: TP) -> deque[Chunk]:
        self._pause(tp, True)
        self.wanted.set()
        return self._chunks.setdefault(tp, deque())


def parted(chunk: Chunk, next_offset: int) -> tuple[Chunk, Chunk]:
    """Return the records of a chunk before an offset, and those from it on."""
    index = bisect_left(chunk.records, next_offset, key=lambda record: record.offset)
    return chunk._replace(records=chunk.records[:index]), chunk._replace(records=chunk.records[index:])
