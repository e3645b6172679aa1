"""Chunks beyond a day's end that is not decided yet: they are paused until it is, in the order they came.

If cut-offs are computed, a backlog would otherwise be read far ahead of what may be decided, into the rows of its
customers. Paused records count as unread. There are at most as many as the stream's queue holds, because a paused
partition is not fetched.
"""

import asyncio
from bisect import bisect_left
from collections import deque
from collections.abc import Callable

from faust.types import TP

from streams.faust_ext.chunk import Chunk


class Paused:
    """The paused chunks, by topic and partition."""

    def __init__(self, pause: Callable[[TP, bool], None]) -> None:
        """`pause(tp, yes)` stops fetching a partition, or fetches it again."""
        self._watermark_needed = asyncio.Event()
        self._pause = pause
        self._chunks: dict[TP, deque[Chunk]] = {}

    def __contains__(self, tp: object) -> bool:
        return tp in self._chunks

    async def watermark_needed(self) -> None:
        """Return once chunks were paused since the last watermark: the next one should come soon."""
        await self._watermark_needed.wait()

    def watermark_comes(self) -> None:
        """Note that a watermark is being made."""
        self._watermark_needed.clear()

    def of(self, number: int) -> list[TP]:
        """Return the paused topics of a partition."""
        return [tp for tp in self._chunks if tp.partition == number]

    def append(self, tp: TP, chunk: Chunk) -> None:
        """Pause a chunk behind the others of its topic and partition."""
        self._pausing(tp).append(chunk)

    def put_back(self, tp: TP, chunk: Chunk) -> None:
        """Pause the rest of a chunk, before the others of its topic and partition."""
        self._pausing(tp).appendleft(chunk)

    def take(self, tp: TP) -> Chunk:
        """Remove and return the first records; after the last ones the partition is fetched again.

        There are as many as in the largest chunk: a small rest is filled up from the next chunk, because in a large
        batch the same customers come more often, and each is read and written once.
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
        """Drop the chunks of a topic and partition: they are fetched again, by us or by another process."""
        if self._chunks.pop(tp, None) is not None:
            self._pause(tp, False)

    def clear(self) -> None:
        """Drop all chunks."""
        for tp in list(self._chunks):
            self.drop(tp)

    def _pausing(self, tp: TP) -> deque[Chunk]:
        self._pause(tp, True)
        self._watermark_needed.set()
        return self._chunks.setdefault(tp, deque())


def split_at(chunk: Chunk, next_offset: int) -> tuple[Chunk, Chunk]:
    """Return the records of a chunk before an offset, and those from it on, as two chunks."""
    index = bisect_left(chunk.records, next_offset, key=lambda record: record.offset)
    return chunk._replace(records=chunk.records[:index]), chunk._replace(records=chunk.records[index:])
