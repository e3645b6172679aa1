import asyncio
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from models.customer.state import Customer
from models.events import Topic
from streams.metrics.collectors import Metrics
from streams.partition.effects import Effects
from streams.partition.fencing import ChangelogLost, Claim, Fence, Fenced
from streams.partition.state import CLAIM_KEY, Partition
from streams.worker import ownership as owning
from streams.worker.ownership import Ownership
from tests.support.driver import Driver, order
from tests.support.worker_context import context_of

ROGUE = b"rogue-01"
LATE = Customer("late").to_row()


class Log:
    """Store, consumer, sender and the changelog itself, of partition 0."""

    def __init__(self) -> None:
        self.records: list[Any] = []
        self.produced: list[tuple[str, bytes]] = []
        self.member = True
        self.meanwhile: list[Callable[[], None]] = []
        self.claims: dict[int, Claim] = {}
        self.driver = Driver()
        self.open: dict[int, Partition] = {0: self.driver.partition}
        self.fences = {0: Fence()}
        self.recovered = -1
        self.settled: list[int] = []
        self.sent_at: list[int] = []
        #: Input partitions that are assigned: what the group committed of them, and where their logs begin.
        self.group_read: dict[TP, tuple[int, int]] = {}

    # --- the store ---

    def partition(self, number: int) -> Partition | None:
        return self.open.get(number)

    def fence(self, number: int) -> Fence:
        return self.fences[number]

    def note_claim(self, number: int, claim: Claim) -> None:
        self.claims[number] = claim

    def drop(self, number: int) -> None:
        del self.open[number]

    def persisted_offset(self, _tp: TP) -> int | None:
        return None if self.recovered < 0 else self.recovered

    def set_persisted_offset(self, _tp: TP, offset: int) -> None:
        self.recovered = offset

    def settle(self, number: int) -> None:
        assert number == 0
        self.settled.append(self.recovered)

    async def catch_up(self, number: int, records: list[Any]) -> Partition:
        for record in records:
            if self.fence(number).admits(record) and not record.key.startswith(CLAIM_KEY):
                self.open[number].rows[record.key] = record.value
        return self.open[number]

    # --- the consumer ---

    async def still_owner(self, _tp: TP, _offset: int) -> bool:
        return self.member

    def assignment(self) -> set[TP]:
        return {TP("ticks", 0), TP("interactions", 0), *self.group_read}

    async def committed(self, tp: TP) -> int:
        return self.group_read.get(tp, (0, 0))[0]

    async def beginning(self, tp: TP) -> int:
        return self.group_read[tp][1]

    # --- the sender ---

    async def produce(self, _partition: int, outputs: dict[str, list[Any]]) -> None:
        self.sent_at.append(len(self.records))
        self.produced += [(topic, out.key) for topic, outs in outputs.items() for out in outs]

    async def write(self, _partition: int, rows: Iterable[tuple[bytes, bytes | None]], claim: Claim) -> range:
        if self.meanwhile:
            self.meanwhile.pop(0)()
        first = len(self.records)
        for key, row in rows:
            self.add(key, row, claim)
        return range(first, len(self.records))

    # --- the log ---

    def add(self, key: bytes, value: bytes | None, claim: Claim) -> None:
        self.records.append(
            SimpleNamespace(offset=len(self.records), timestamp=5, key=key, value=value, headers=claim.headers)
        )

    async def read(self, _partition: int, offsets: range) -> list[Any]:
        return self.records[offsets.start : offsets.stop]


def owner_of(log: Log) -> Ownership:
    context = context_of(log, read_changelog=log.read)
    ownership = Ownership(context, log.driver.processor, Metrics())
    ownership._committer = lambda: log
    return ownership


def claim(log: Log, ownership: Ownership) -> Partition | None:
    return asyncio.run(ownership.claim(log.open[0]))


def ordered(log: Log, name: str, number: int) -> Effects:
    return log.driver.feed(Topic.ORDERS, order(name, number, "2026-03-01T10:00:00Z"))


def test_a_partition_is_claimed_once_above_every_claim_before() -> None:
    log = Log()
    log.add(CLAIM_KEY, Claim(1, ROGUE).encoded, Claim(7, ROGUE))
    log.add(
        b"ann", log.driver.feed(Topic.ORDERS, order("ann", 1, "2026-03-01T10:00:00Z")).changelog[0][1], Claim(7, ROGUE)
    )
    asyncio.run(log.catch_up(0, log.records))
    log.recovered = 1
    ownership = owner_of(log)
    assert claim(log, ownership) is claim(log, ownership) is log.open[0]
    assert [(record.key, record.headers) for record in log.records[2:]] == [(CLAIM_KEY + b"0", log.claims[0].headers)]
    assert log.claims[0].epoch == 8


def test_what_was_written_between_recovery_and_claim_counts() -> None:
    log = Log()
    row = ordered(log, "ann", 1).changelog[0][1]
    log.open[0].rows.clear()
    log.meanwhile = [lambda: log.add(b"ann", row, Claim(3, ROGUE))]
    log.fences[0].holder = Claim(3, ROGUE)
    partition = claim(log, owner_of(log))
    assert partition is not None
    assert partition.rows[b"ann"] == row


def test_of_two_that_claim_at_once_the_later_one_asks_the_group_and_claims_again() -> None:
    log = Log()
    log.meanwhile = [lambda: log.add(CLAIM_KEY, Claim(1, ROGUE).encoded, Claim(1, ROGUE))]
    assert claim(log, owner_of(log)) is log.open[0]
    assert log.claims[0].epoch == 2


def test_who_is_no_member_claims_nothing_and_gives_the_partition_up() -> None:
    log = Log()
    log.member = False
    assert claim(log, owner_of(log)) is None
    assert (log.open, log.records) == ({}, [])


def test_a_late_row_of_a_replaced_owner_is_written_again() -> None:
    log = Log()
    ownership = owner_of(log)
    partition = claim(log, ownership)
    assert partition is not None
    asyncio.run(ownership.perform(partition, ordered(log, "ann", 1)))
    log.produced.clear()
    row = partition.rows[b"ann"]
    log.meanwhile = [lambda: log.add(b"ann", LATE, Claim(0, ROGUE))]
    asyncio.run(ownership.perform(partition, ordered(log, "bob", 2)))
    last = [record for record in log.records if record.key == b"ann"][-1]
    assert (last.value, last.headers) == (row, log.claims[0].headers)
    assert ("customer-tiers", b"ann") in log.produced
    assert not log.fences[0].stale


def test_a_damaged_row_becomes_a_dead_letter_and_the_row_before_it_is_written_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Once as the partition is claimed, and once while it is ours."""
    log = Log()
    row = ordered(log, "ann", 1).changelog[0][1]
    log.add(b"ann", row, Claim(7, ROGUE))
    log.add(b"ann", b"garbage", Claim(7, ROGUE))
    log.add(b"\xff", row, Claim(2**64 - 1, ROGUE))
    asyncio.run(log.catch_up(0, log.records))
    log.recovered = 2
    ownership = owner_of(log)
    with caplog.at_level("WARNING"):
        partition = claim(log, ownership)
    assert partition is not None
    assert log.claims[0].epoch == 8
    assert log.produced == [
        ("dead-letters", b"ann"),
        ("dead-letters", b"\xff"),
        ("customer-tiers", b"ann"),
        ("customer-tiers", b"\xff"),
    ]
    assert {record.key: record.value for record in log.records[4:]} == {
        b"ann": row,
        b"\xff": None,
        partition.progress_key: partition.rows[partition.progress_key],
    }
    assert [record.offset for record in caplog.records if "damaged row" in record.message] == [1, 2]
    assert ownership._metrics.dead_letters.labels("damaged_row")._value.get() == 2
    assert "ann" not in caplog.text

    log.produced.clear()
    log.meanwhile = [lambda: log.add(b"ann", b"garbage", log.claims[0])]
    asyncio.run(ownership.perform(partition, ordered(log, "bob", 2)))
    assert log.produced.count(("dead-letters", b"ann")) == 1
    assert [record.value for record in log.records if record.key == b"ann"][-1] == row
    assert not log.fences[0].stale


def test_damaged_rows_are_read_together_unless_they_lie_far_apart() -> None:
    assert list(owning._stretches([])) == []
    assert list(owning._stretches([4])) == [range(4, 5)]
    assert list(owning._stretches([4, 900, 5_000, 5_001])) == [range(4, 901), range(5_000, 5_002)]


def test_who_finds_another_claim_drops_the_partition_or_ends() -> None:
    for member in (False, True):
        log = Log()
        ownership = owner_of(log)
        partition = claim(log, ownership)
        assert partition is not None
        log.member = member
        log.meanwhile = [lambda log=log: log.add(CLAIM_KEY, Claim(1, ROGUE).encoded, Claim(9, ROGUE))]
        if member:
            with pytest.raises(Fenced):
                asyncio.run(ownership.perform(partition, ordered(log, "ann", 1)))
        else:
            asyncio.run(ownership.perform(partition, ordered(log, "ann", 1)))
            assert log.open == {}
        assert log.settled == [], "what does not count must not be kept"


def test_what_counts_is_kept_once_it_is_acknowledged() -> None:
    log = Log()
    ownership = owner_of(log)
    partition = claim(log, ownership)
    assert partition is not None
    asyncio.run(ownership.perform(partition, ordered(log, "ann", 1)))
    assert log.settled == [len(log.records) - 1]


def test_what_is_spent_is_written_before_anything_goes_out() -> None:
    log = Log()
    ownership = owner_of(log)
    partition = claim(log, ownership)
    assert partition is not None
    effects = ordered(log, "ann", 1)
    effects.reserve = (partition.progress_key, b"reserved")
    first = len(log.records)
    # A late row of a replaced owner comes between: it is written over, but only once the outputs are out.
    log.meanwhile = [lambda: log.add(b"ann", LATE, Claim(0, ROGUE))]
    asyncio.run(ownership.perform(partition, effects))
    assert [record.value for record in log.records[first : log.sent_at[0]]] == [LATE, b"reserved"]
    written = {record.key: record.value for record in log.records[log.sent_at[0] :]}
    assert written == {b"ann": partition.rows[b"ann"], partition.progress_key: partition.rows[partition.progress_key]}


def test_who_turns_out_to_be_replaced_before_anything_goes_out_sends_nothing() -> None:
    log = Log()
    ownership = owner_of(log)
    partition = claim(log, ownership)
    assert partition is not None
    effects = ordered(log, "ann", 1)
    effects.reserve = (partition.progress_key, b"reserved")
    log.member = False
    log.meanwhile = [lambda: log.add(CLAIM_KEY, Claim(1, ROGUE).encoded, Claim(9, ROGUE))]
    asyncio.run(ownership.perform(partition, effects))
    assert (log.produced, log.open) == ([], {})


def test_a_quiet_partition_is_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log()
    ownership = owner_of(log)
    partition = claim(log, ownership)
    assert partition is not None
    asyncio.run(ownership.renew(partition))
    assert len(log.records) == 1
    monkeypatch.setattr(owning, "RENEW_S", 0.0)
    asyncio.run(ownership.renew(partition))
    assert [record.key for record in log.records[1:]] == [partition.progress_key]


def test_a_partition_whose_owner_stays_unsettled_ends_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log()
    log.member = False
    ownership = owner_of(log)
    claim(log, ownership)
    ownership.check()
    monkeypatch.setattr(owning, "_UNSETTLED_S", -1.0)
    with pytest.raises(Fenced):
        ownership.check()


def test_rows_that_land_before_the_end_of_the_changelog_end_the_worker_and_are_taken_back() -> None:
    log = Log()
    ownership = owner_of(log)
    claim(log, ownership)
    asyncio.run(ownership.perform(log.open[0], ordered(log, "c1", 1)))
    log.records.clear()  # the topic is deleted and created again
    with pytest.raises(ChangelogLost, match=r"partition 0: a row was written at offset 0, but .* had ended at \d"):
        asyncio.run(ownership.perform(log.open[0], ordered(log, "c2", 2)))
    left: dict[bytes, bytes | None] = {record.key: record.value for record in log.records}
    assert left
    assert set(left.values()) == {None}  # else a new start would take them for the whole state


def test_a_claim_that_lands_before_the_end_of_the_changelog_ends_the_worker() -> None:
    log = Log()
    log.recovered = 7
    with pytest.raises(ChangelogLost, match="written at offset 0, but the changelog had ended at 8"):
        claim(log, owner_of(log))


@pytest.mark.parametrize(
    ("committed", "begin", "ends", "says"), [(0, 0, False, False), (5, 0, False, True), (5, 2, True, False)]
)
def test_a_state_that_is_gone_is_rebuilt_if_the_inputs_are_whole(
    committed: int, begin: int, ends: bool, says: bool, caplog: pytest.LogCaptureFixture
) -> None:
    log = Log()
    log.group_read[TP("orders", 0)] = committed, begin
    if ends:
        with pytest.raises(ChangelogLost, match="orders was read up to offset 5, and that begins at 2"):
            claim(log, owner_of(log))
    else:
        assert claim(log, owner_of(log)) is not None
    assert ("the state is rebuilt from the beginning of orders" in caplog.text) is says
