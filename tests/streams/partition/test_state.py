import logging

import msgspec
import pytest

from models.customer.state import NEVER, Customer, row_instant
from models.events import Topic
from models.instants import MIN_INSTANT
from streams.partition.state import PROGRESS_KEY, Partition, Progress, Watermark, decode_watermark


def row(name: str, due: int = NEVER, timeline: int = 0) -> bytes:
    customer = Customer(name)
    customer.due, customer.timeline = due, timeline
    return customer.to_row()


def test_a_new_partition_knows_nothing() -> None:
    partition = Partition(3)
    assert partition.customers == 0
    assert [partition.next_offset(topic) for topic in Topic] == [0, 0, 0, 0]
    assert partition.progress.stream_time is None
    assert partition.timers.next_instant() == NEVER


def test_progress_travels_in_a_row_of_its_own() -> None:
    partition = Partition(3)
    partition.applied(Topic.ORDERS, 12, 5_000)
    partition.applied(Topic.ORDERS, 15, 4_000)
    partition.applied(Topic.CUSTOMERS, 2, None)
    partition.move_time(Watermark(4_500))
    key, value = partition.progress_row()
    assert key == PROGRESS_KEY + b"3"
    assert partition.rows == {key: value}
    assert partition.customers == 0
    recovered = Partition(3, {key: value})
    assert recovered.progress == Progress({"orders": 15, "customers": 2}, {"orders": 5_000}, 4_500)


def test_the_due_index_is_built_from_the_rows() -> None:
    rows = {b"ann": row("ann", 70), b"bob": row("bob", 50), b"eve": row("eve")}
    partition = Partition(0, rows)
    partition.progress_row()
    assert partition.customers == 3
    assert len(partition.timers) == 2
    assert list(partition.timers.pop_due(50, lambda key: row_instant(rows[key], 0))) == [b"bob"]


def test_rows_evaluated_under_another_timeline_are_due_at_once() -> None:
    rows = {b"ann": row("ann", 70, 5), b"bob": row("bob", 50, 5), b"eve": row("eve", timeline=5)}
    same = Partition(0, rows, timeline=5)
    assert len(same.timers) == 2
    assert list(same.timers.pop_due(49, lambda key: row_instant(rows[key], 5))) == []
    assert same.timers.next_instant() == 50
    same.progress_row()
    other = Partition(0, rows, timeline=6)
    assert (len(other.timers), other.timers.next_instant()) == (3, MIN_INSTANT)
    assert set(other.timers.pop_due(MIN_INSTANT, lambda _: MIN_INSTANT)) == {b"ann", b"bob", b"eve"}


def test_rows_are_shared_with_their_holder() -> None:
    rows: dict[bytes, bytes] = {}
    partition = Partition(0, rows)
    partition.rows[b"ann"] = b"row"
    assert rows == {b"ann": b"row"}


def test_progress_of_another_partition_is_not_taken_for_ones_own() -> None:
    other = Partition(1)
    other.applied(Topic.ORDERS, 9, 1)
    key, value = other.progress_row()
    assert Partition(11, {key: value}).next_offset(Topic.ORDERS) == 0


@pytest.mark.parametrize(
    ("moves", "reached"),
    [
        ([None], None),
        ([5], 5),
        ([5, 9], 9),
        ([9, 5], 9),
        ([9, None], 9),
        ([-7], -7),
    ],
)
def test_time_moves_forward_only(moves: list[int | None], reached: int | None) -> None:
    partition = Partition(0)
    for time in moves:
        partition.move_time(Watermark(time))
    assert partition.move_time(Watermark(None)) == partition.progress.stream_time == reached


def test_progress_written_by_a_later_release_with_more_fields_is_readable() -> None:
    value = msgspec.msgpack.encode({"applied": {"orders": 4}, "latest": {}, "stream_time": 3, "added_later": [1]})
    assert Partition(0, {PROGRESS_KEY + b"0": value}).next_offset(Topic.ORDERS) == 4


def test_progress_written_before_a_field_existed_is_readable() -> None:
    value = msgspec.msgpack.encode({"applied": {"orders": 4}})
    assert Partition(0, {PROGRESS_KEY + b"0": value}).progress == Progress({"orders": 4}, {}, None)


@pytest.mark.parametrize("value", [None, b"", b"nope", b"[]", b'{"time":"soon"}', b'{"time":1.5}', b"\xff"])
def test_a_value_that_is_no_watermark_is_ignored(value: bytes | None, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert decode_watermark(value) is None
    assert "not a watermark" in caplog.text


def test_a_watermark_comes_back_as_it_was_sent() -> None:
    for tick in (Watermark(None), Watermark(0), Watermark(-5), Watermark(1_800_000_000_000)):
        assert decode_watermark(msgspec.json.encode(tick)) == tick
