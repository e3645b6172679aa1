from typing import Any, NamedTuple

import msgspec
import pytest

from models.customer.state import MAX_VERSION, ROW_VERSION, Customer
from streams.partition.fencing import NOBODY, Claim, Fence, Fenced, claim_of, flaw_of
from streams.partition.state import CLAIM_KEY, Partition

ANN, BOB = b"ann", b"bob"
FIRST, SECOND = Claim(1, b"owner-01"), Claim(2, b"owner-02")
ROW = Customer("ann").to_row()


class Record(NamedTuple):
    key: bytes | None
    headers: Any = ()
    value: bytes | None = ROW
    offset: int = 7
    timestamp: int = 0


CLAIM = Record(CLAIM_KEY + b"0", SECOND.headers, SECOND.encoded)


def test_a_claim_survives_its_header() -> None:
    assert claim_of(SECOND.headers) == SECOND
    assert claim_of([("something", b"else")]) == NOBODY


def test_rows_of_the_holder_and_of_those_before_it_count() -> None:
    fence = Fence()
    headers = ([], FIRST.headers, FIRST.headers, SECOND.headers)
    assert all(fence.admits(Record(ANN, each)) for each in headers)
    assert (fence.holder, fence.stale) == (SECOND, {})


def test_what_a_replaced_owner_writes_late_does_not_count_until_it_is_written_over() -> None:
    fence = Fence()
    fence.admits(Record(ANN, FIRST.headers))
    fence.admits(CLAIM)
    assert not fence.admits(Record(ANN, FIRST.headers))
    assert not fence.admits(Record(BOB))
    assert fence.stale == {ANN: None, BOB: None}
    assert fence.admits(Record(ANN, SECOND.headers))
    assert fence.stale == {BOB: None}


def test_of_two_claims_with_one_epoch_the_first_in_the_log_holds() -> None:
    fence, other = Fence(), Claim(1, b"owner-03")
    assert fence.admits(CLAIM._replace(headers=FIRST.headers))
    assert not fence.admits(CLAIM._replace(headers=other.headers))
    assert fence.holder == FIRST
    assert fence.next_claim(other.owner) == Claim(2, other.owner)


def _with_orders(*lengths: int) -> bytes:
    fields = msgspec.msgpack.decode(ROW[13:])
    fields[3] = [bytes(length) for length in lengths]
    return ROW[:13] + msgspec.msgpack.encode(fields)


OWNED = [("owner", FIRST.encoded)]
DAMAGED = {
    "a short header": Record(ANN, [("owner", b"short")]),
    "a header of text": Record(ANN, [("owner", b"somebody-or-other")]),
    "an empty header": Record(ANN, [("owner", None)]),
    "the last epoch": Record(ANN, Claim(2**64 - 1, b"owner-09").headers),
    "an epoch that none reaches": Record(ANN, Claim(2**48, b"owner-09").headers),
    "a claim with the last epoch": CLAIM._replace(headers=OWNED, value=Claim(2**64 - 1, b"owner-09").encoded),
    "a claim that is none": CLAIM._replace(headers=OWNED, value=b"claim"),
    "no claim": CLAIM._replace(headers=OWNED, value=None),
    "a progress that is none": Record(Partition(0).progress_key, OWNED, b"\x93"),
    "a progress of another kind": Record(Partition(0).progress_key, OWNED, msgspec.msgpack.encode({"applied": 1})),
    "no key": Record(None, OWNED),
    "an empty key": Record(b"", OWNED),
    "a key that is no text": Record(b"\xff", OWNED),
    "a key with NUL": Record(b"a\0b", OWNED),
    "an empty row": Record(ANN, OWNED, b""),
    "a short row": Record(ANN, OWNED, ROW[:12]),
    "a header without fields": Record(ANN, OWNED, ROW[:13]),
    "a row that is cut": Record(ANN, OWNED, ROW[:-1]),
    "a row of text": Record(ANN, OWNED, b'{"customer_id": "ann"}'),
    "version 0": Record(ANN, OWNED, b"\0" + ROW[1:]),
    "a version that no release has": Record(ANN, OWNED, bytes([MAX_VERSION + 1]) + ROW[1:]),
    "fields of other types": Record(ANN, OWNED, ROW[:13] + msgspec.msgpack.encode(["x"] * 15)),
    "deep nesting": Record(ANN, OWNED, ROW[:13] + b"\x91" * 100_000),
    "half an instant": Record(ANN, OWNED, _with_orders(12, 12, 12, 0)),
    "more orders than ids": Record(ANN, OWNED, _with_orders(16, 8, 16, 0)),
    "fewer margins than orders": Record(ANN, OWNED, _with_orders(16, 16, 16, 8)),
}


@pytest.mark.parametrize("record", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_record_changes_nothing_until_it_is_written_over(record: Record) -> None:
    fence = Fence(FIRST)
    flaw = flaw_of(record)
    assert flaw is not None
    assert "customer_id" not in flaw.replace("no customer_id", ""), "the flaw is logged, without content"
    assert not fence.admits(record)
    key = record.key or b""
    assert (fence.holder, fence.stale) == (FIRST, {key: 7})
    assert not fence.admits(Record(key, []))
    assert fence.take_stale() == {key: 7}, "a replaced owner's row after it hides no damage"
    assert fence.stale == {}


@pytest.mark.parametrize(
    "record",
    [
        Record(ANN, OWNED, None),
        Record(ANN, OWNED, bytes([ROW_VERSION + 1]) + ROW[1:]),
        Record(b"\0something new", OWNED, b"x"),
        Record(*Partition(0).progress_row()[:1], OWNED, Partition(0).progress_row()[1]),
        Record(Partition(0).progress_key, OWNED, None),
        CLAIM,
    ],
)
def test_what_this_or_a_newer_release_writes_is_no_damage(record: Record) -> None:
    assert flaw_of(record) is None
    assert Fence(FIRST).admits(record)


def test_a_record_that_uses_up_the_epochs_is_named() -> None:
    fence = Fence()
    assert fence.admits(Record(ANN, Claim(2**48 - 1, b"owner-09").headers))
    with pytest.raises(Fenced, match="epoch 281474976710655"):
        fence.next_claim(b"owner-01")
