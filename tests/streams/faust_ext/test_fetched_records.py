"""Records as the decoder made them, against those that aiokafka makes of them."""

from collections import OrderedDict
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import READ_UNCOMMITTED, FetchError, FetchResult, PartitionRecords
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from streams.faust_ext.fetched_records import return_decoded_records

#: Kafka's number of the compression.
GZIP = 1
TP = TopicPartition("orders", 3)
#: Key, value and headers.
SENT: list[tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]] = [
    (b"c1", b"first", []),
    (None, b"second", [("ce_backfill", b"1"), ("by", b"\0\1")]),
    (b"c2", None, []),
]
READ = ("offset", "timestamp", "timestamp_type", "key", "value")


class Assigned:
    """A partition that is ours, and where reading it stands."""

    active, paused = True, False

    def __init__(self, position: int) -> None:
        self.position = position

    def state_value(self, _tp: TopicPartition) -> "Assigned":
        return self

    def consumed_to(self, position: int) -> None:
        self.position = position


def result(offset: int = 0, compression: int = 0) -> FetchResult:
    """Return what the fetcher keeps of a fetch from an offset on."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=compression,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=10_000,
    )
    for number, (key, value, headers) in enumerate(SENT):
        builder.append(number, 1_000 + number, key, value, headers)
    records = MemoryRecords(bytes(builder.build()))
    fetched = PartitionRecords(TP, records, [], offset, None, None, True, READ_UNCOMMITTED)
    return FetchResult(TP, assignment=Assigned(offset), partition_records=fetched, backoff=0)


def consumer() -> Any:
    started = SimpleNamespace(_fetcher=SimpleNamespace(_records=OrderedDict()))
    return_decoded_records(started)
    return started


@pytest.mark.parametrize("compression", [0, GZIP])
def test_what_is_read_of_a_record_is_what_aiokafka_would_hand_on(compression: int) -> None:
    records = consumer()._fetcher._records
    records[TP] = result(compression=compression)
    ours, theirs = records[TP].getall(), result(compression=compression).getall()
    assert [type(record).__name__ for record in ours] == ["DefaultRecord"] * 3
    for mine, other, (key, value, headers) in zip(ours, theirs, SENT, strict=True):
        assert [getattr(mine, name) for name in READ] == [getattr(other, name) for name in READ]
        assert (mine.key, mine.value, list(mine.headers), tuple(mine.headers)) == (key, value, headers, other.headers)


def test_a_fetch_continues_after_the_one_before() -> None:
    records = consumer()._fetcher._records
    records[TP] = result(offset=1)
    assert [record.offset for record in records[TP].getall(1)] == [1]
    assert [record.offset for record in records[TP].getall(5)] == [2]
    assert not records[TP].has_more()


def test_errors_are_kept_as_they_are() -> None:
    records = consumer()._fetcher._records
    records[TP] = error = FetchError(error=ValueError("refused"), backoff=0)
    assert records[TP] is error
