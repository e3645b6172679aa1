"""Paused chunks come back complete and in order, and nothing more is fetched meanwhile."""

from types import SimpleNamespace

from faust.types import TP

from streams.faust_ext.chunk import Chunk
from streams.worker.paused import Paused, split_at

ORDERS, OTHERS = TP("orders", 3), TP("interactions", 3)


class Fetching:
    """The partitions that are not fetched."""

    def __init__(self) -> None:
        self.held: set[TP] = set()
        self.paused = Paused(self.pause)

    def pause(self, tp: TP, yes: bool) -> None:
        (self.held.add if yes else self.held.discard)(tp)


def chunk(*offsets: int, epoch: int = 0, number: int = 0) -> Chunk:
    return Chunk([SimpleNamespace(offset=offset) for offset in offsets], epoch, number)


def offsets(one: Chunk) -> list[int]:
    return [record.offset for record in one.records]


def test_a_chunk_is_split_at_an_offset_even_at_a_hole() -> None:
    before, rest = split_at(chunk(3, 4, 8, 9, epoch=2, number=5), 6)
    assert (offsets(before), offsets(rest)) == ([3, 4], [8, 9])
    assert (rest.epoch, rest.number) == (2, 5)
    assert split_at(before, 9) == (before, before._replace(records=[]))


def test_chunks_come_back_in_order_as_large_as_the_largest_and_are_then_fetched_again() -> None:
    fetching = Fetching()
    paused = fetching.paused
    paused.append(ORDERS, chunk(12, 13, 14))
    paused.append(ORDERS, chunk(15, 16))
    paused.put_back(ORDERS, chunk(10, 11))
    assert fetching.held == {ORDERS}
    assert (ORDERS in paused, OTHERS in paused, paused.of(3), paused.of(2)) == (True, False, [ORDERS], [])
    assert offsets(paused.take(ORDERS)) == [10, 11, 12]
    assert offsets(paused.take(ORDERS)) == [13, 14]
    assert fetching.held == {ORDERS}
    assert offsets(paused.take(ORDERS)) == [15, 16]
    assert (fetching.held, ORDERS in paused) == (set(), False)


def test_chunks_with_missing_records_between_them_are_not_joined() -> None:
    paused = Fetching().paused
    paused.append(ORDERS, chunk(10, 11, number=7))
    paused.append(ORDERS, chunk(13, 14, 15, number=8))
    first, second = paused.take(ORDERS), paused.take(ORDERS)
    assert (offsets(first), first.number, offsets(second), second.number) == ([10, 11], 7, [13, 14, 15], 8)


def test_a_pause_needs_a_watermark_and_dropped_chunks_are_fetched_again() -> None:
    fetching = Fetching()
    assert not fetching.paused._watermark_needed.is_set()
    for tp in (ORDERS, OTHERS):
        fetching.paused.append(tp, chunk(1))
    assert fetching.paused._watermark_needed.is_set()
    fetching.paused.drop(ORDERS)
    assert fetching.held == {OTHERS}
    fetching.paused.clear()
    assert (fetching.held, fetching.paused.of(3)) == (set(), [])
