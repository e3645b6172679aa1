"""Batches that are read as aiokafka reads them, until they are too large or broken."""

import cramjam
import pytest
from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from models.errors import BadRecord, Reason
from models.events import Topic
from models.money import Money
from models.wire import Wire
from streams.kafka import bounded_batches
from streams.kafka.bounded_batches import bound_batches

CODECS = {"gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
TP = TopicPartition("orders", 3)
#: The bytes before the records of a batch.
HEADER = 61


def batch(codec: int, *values: bytes, base: int = 0) -> bytes:
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=codec,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=1_000_000_000,
    )
    for number, value in enumerate(values):
        builder.append(number, 1_000 + number, b"c1", value, [])
    return base.to_bytes(8, "big") + bytes(builder.build())[8:]


def read(*batches: bytes, check_crcs: bool = True) -> fetcher.PartitionRecords:
    bound_batches()
    records = fetcher.MemoryRecords(b"".join(batches))
    return fetcher.PartitionRecords(TP, records, [], 0, None, None, check_crcs, fetcher.READ_COMMITTED)


def refusal(value: bytes) -> BadRecord:
    """Return why decoding refuses a value, alone and in a batch."""
    wire = Wire(Money("EUR"))
    (bad,) = wire.decode_batch(Topic.ORDERS, [value], [None])
    assert isinstance(bad, BadRecord)
    for decode in (lambda: wire.decode(Topic.CUSTOMERS, None, value), lambda: wire.decode_campaign(value)):
        with pytest.raises(BadRecord) as raised:
            decode()
        assert (raised.value.reason, raised.value.detail) == (bad.reason, bad.detail)
    return bad


@pytest.mark.parametrize("codec", CODECS)
def test_a_compressed_batch_is_read_as_one_that_is_not(codec: str) -> None:
    values = [b"one", b"t" * 300_000, b""]
    kept = [(r.offset, r.timestamp, r.key, r.value) for r in read(batch(CODECS[codec], *values, base=7))]
    assert kept == [(7 + n, 1_000 + n, b"c1", value) for n, value in enumerate(values)]


@pytest.mark.parametrize("codec", CODECS)
def test_one_record_stands_for_a_batch_that_is_too_large(codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_batches, "MAX_BATCH_BYTES", 1_048_576)
    large = batch(CODECS[codec], b"\0" * 600_000, b"\0" * 600_000, base=5)
    records = read(batch(0, b"before", base=4), large, batch(CODECS[codec], b"after", base=7))
    before, stand_in, after = list(records)
    assert (before.value, after.value) == (b"before", b"after")
    assert (stand_in.offset, stand_in.timestamp, stand_in.key, stand_in.value) == (6, 1_001, None, b"")
    bad = refusal(stand_in.value)
    assert bad.reason is Reason.TOO_LARGE
    assert "offsets 5 to 6" in bad.detail
    assert "more than 1 MiB" in bad.detail
    assert records.next_fetch_offset == 8


@pytest.mark.parametrize("codec", CODECS)
def test_a_batch_at_the_bound_is_read(codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    large = batch(CODECS[codec], b"\0" * 5_000_000)
    plain = len(batch(0, b"\0" * 5_000_000)) - HEADER
    monkeypatch.setattr(bounded_batches, "MAX_BATCH_BYTES", plain)
    assert [len(record.value) for record in read(large)] == [5_000_000]
    monkeypatch.setattr(bounded_batches, "MAX_BATCH_BYTES", plain - 1)
    assert [len(record.value) for record in read(large)] == [0]


@pytest.mark.parametrize("codec", [*CODECS.values(), 5])
def test_a_batch_that_cannot_be_decompressed_is_refused_like_a_record(codec: int) -> None:
    whole = batch(1, b"one", b"two")
    attributes = bytes((0, codec))
    broken = whole[:21] + attributes + whole[23:HEADER] + b"no codec wrote this" + whole[HEADER + 19 :]
    (stand_in,) = read(broken, check_crcs=False)
    bad = refusal(stand_in.value)
    assert bad.reason is Reason.NOT_JSON
    assert "offsets 0 to 1" in bad.detail


def test_after_enough_the_rest_is_fetched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_batches, "MAX_BATCH_BYTES", 1_048_576)
    batches = [batch(4, b"\0" * 600_000, base=n) for n in range(5)]
    records = read(*batches)
    assert [record.offset for record in records] == [0, 1]
    assert records.next_fetch_offset == 2


def test_snappy_as_java_writes_it_and_as_others_do(monkeypatch: pytest.MonkeyPatch) -> None:
    bound_batches()
    whole = b"text" * 100_000
    plain = bytes(cramjam.snappy.compress_raw(whole))
    assert fetcher.MemoryRecords is bounded_batches.BoundedRecords
    assert bounded_batches.codec.snappy_decode(plain) == whole
    assert bounded_batches.codec.snappy_decode(bounded_batches.codec.snappy_encode(whole)) == whole
    monkeypatch.setattr(bounded_batches, "MAX_BATCH_BYTES", len(whole) - 1)
    for packed in (plain, bounded_batches.codec.snappy_encode(whole)):
        with pytest.raises(bounded_batches.BatchTooLargeError):
            bounded_batches.codec.snappy_decode(packed)
