import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from aiokafka.errors import KafkaTimeoutError
from faust.types import TP

from config.settings import load_settings
from models.events import Topic
from models.instants import DAY_MS, MINUTE_MS
from streams.faust_ext.chunk import Chunk
from streams.metrics.collectors import Metrics
from streams.partition.fencing import Claim
from streams.partition.state import Partition, Watermark, decode_watermark
from streams.worker.loop import Worker
from streams.worker.watermarks import Watermarks
from tests.support.worker_context import context_of

NOW = 1_800_000_000_000
GRACE = 10_000


@dataclass
class Fakes:
    """Store, consumer and producer in one, for watermarks. Offsets are by (topic label, partition)."""

    numbers: tuple[int, ...] = (0, 1)
    ends: dict[tuple[str, int], int] = field(default_factory=dict)
    #: Where nothing more is found, after fetching again, up to these ends.
    void: dict[tuple[str, int], int] = field(default_factory=dict)
    open: dict[tuple[str, int], int] = field(default_factory=dict)
    #: What a fetch said last; without it, the ends that are listed.
    fetched: dict[tuple[str, int], int] = field(default_factory=dict)
    #: When the last fetch was (ms).
    fetched_at: int = 2**62
    missing: set[TP] = field(default_factory=set)
    now: int = NOW

    def __post_init__(self) -> None:
        self.partitions = {number: Partition(number) for number in self.numbers}
        self.claims: dict[int, Claim] = {}
        self.sent: list[tuple[int, Watermark | None]] = []
        self.asked: list[TP] = []

    def assignment(self) -> set[TP]:
        return {TP(topic.label, number) for topic in Topic for number in self.numbers} - self.missing

    async def highwaters(self, *tps: TP) -> dict[TP, int]:
        return {tp: self.ends.get((tp.topic, tp.partition), 0) for tp in tps}

    async def log_ends(self, tps: list[TP]) -> dict[TP, tuple[int, int, int]]:
        ends = {tp: self.ends.get((tp.topic, tp.partition), 0) for tp in tps}
        return {tp: (end, self.fetched.get((tp.topic, tp.partition), end), self.fetched_at) for tp, end in ends.items()}

    async def open_records(self, tps: list[TP]) -> dict[TP, int]:
        return {tp: count for tp in tps if (count := self.open.get((tp.topic, tp.partition)))}

    def pause(self, tp: TP, yes: bool) -> None:
        """Nothing is fetched here."""

    async def reached_end(self, tp: TP, end: int) -> bool:
        self.asked.append(tp)
        return self.void.get((tp.topic, tp.partition), 0) >= end

    async def send(self, topic: str, value: bytes, partition: int) -> "asyncio.Future[None]":
        assert topic == "ticks"
        self.sent.append((partition, decode_watermark(value)))
        return asyncio.get_running_loop().create_future()

    def apply(self, topic: Topic, number: int, next_offset: int, latest: int | None = None) -> None:
        """Records of a topic have been applied, and nothing more is there."""
        self.partitions[number].applied(topic, next_offset, latest)
        self.ends[topic.label, number] = max(next_offset, self.ends.get((topic.label, number), 0))


class Rig:
    """Watermarks with fakes around them."""

    def __init__(self, fakes: Fakes, **settings: Any) -> None:
        self.fakes = fakes
        context = context_of(fakes, clock=lambda: fakes.now)
        self.worker = Worker(context, None, Metrics())
        self.watermarks = Watermarks(load_settings(clock_grace=GRACE, **settings), context, self.worker)

    def send(self) -> tuple[dict[int, int | None], list[TP]]:
        """Return the time that each partition gets, and the partitions that make no progress."""
        self.fakes.sent.clear()
        stalled = asyncio.run(self.watermarks.send())
        return {number: watermark.time for number, watermark in self.fakes.sent}, stalled


# --- what time may be ---------------------------------------------------------------------------------------


def test_caught_up_time_follows_the_wall_clock_less_its_grace() -> None:
    fakes = Fakes()
    fakes.apply(Topic.ORDERS, 0, 5, NOW - DAY_MS)
    assert Rig(fakes).send() == ({0: NOW - GRACE, 1: NOW - GRACE}, [])


def test_with_a_backlog_time_follows_the_oldest_of_the_topics_that_lag() -> None:
    fakes = Fakes()
    fakes.apply(Topic.ORDERS, 0, 5, NOW - 30 * DAY_MS)
    fakes.apply(Topic.INTERACTIONS, 0, 5, NOW - 60 * DAY_MS)
    fakes.apply(Topic.CUSTOMERS, 0, 5, NOW - 900 * DAY_MS)
    fakes.ends |= {("orders", 0): 9, ("interactions", 0): 6}
    # The profiles are caught up, however old they are; and the other partition has no backlog.
    assert Rig(fakes).send()[0] == {0: NOW - 60 * DAY_MS, 1: NOW - GRACE}


def test_an_event_from_the_future_does_not_carry_time_past_the_wall() -> None:
    fakes = Fakes()
    fakes.apply(Topic.ORDERS, 0, 5, NOW + DAY_MS)
    fakes.ends["orders", 0] = 6
    assert Rig(fakes).send()[0][0] == NOW - GRACE


def test_time_is_unknown_while_a_topic_that_lags_has_shown_nothing() -> None:
    fakes = Fakes()
    fakes.apply(Topic.ORDERS, 0, 5, NOW - DAY_MS)
    fakes.ends |= {("orders", 0): 9, ("interactions", 0): 1}
    assert Rig(fakes).send()[0] == {0: None, 1: NOW - GRACE}


def test_the_event_clock_follows_the_latest_event_of_any_partition() -> None:
    fakes = Fakes()
    assert Rig(fakes, clock="event").send()[0] == {0: None, 1: None}
    fakes.apply(Topic.ORDERS, 0, 5, 1_000)
    fakes.apply(Topic.INTERACTIONS, 1, 5, 3_000)
    assert Rig(fakes, clock="event").send()[0] == {0: 3_000, 1: 3_000}


def test_the_event_clock_keeps_to_its_own_partition_while_another_lags() -> None:
    fakes = Fakes()
    fakes.apply(Topic.ORDERS, 0, 5, 1_000)
    fakes.apply(Topic.ORDERS, 1, 5, 9_000)
    fakes.ends["orders", 0] = 6
    assert Rig(fakes, clock="event").send()[0] == {0: 1_000, 1: 9_000}
    fakes.apply(Topic.ORDERS, 0, 6, 2_000)
    fakes.ends["orders", 1] = 6
    assert Rig(fakes, clock="event").send()[0] == {0: 2_000, 1: 9_000}


def test_an_idle_event_clock_lets_everything_settle() -> None:
    fakes = Fakes()
    rig = Rig(fakes, clock="event", lateness=DAY_MS, idle_after=2_000)
    fakes.apply(Topic.ORDERS, 0, 5, 1_000)
    fakes.now += 1_999
    assert rig.send()[0] == {0: 1_000, 1: 1_000}
    fakes.now += 1
    assert rig.send()[0] == {0: 1_000 + DAY_MS + 1, 1: 1_000 + DAY_MS + 1}
    fakes.ends["orders", 1] = 1
    assert rig.send()[0] == {0: 1_000, 1: None}


def test_what_is_applied_while_the_ends_are_read_does_not_carry_time_along() -> None:
    """The interaction came together with an order that is not read yet: both lie behind the ends that are read."""
    fakes = Fakes()
    fakes.apply(Topic.ORDERS, 0, 5, 1_000)

    class Meanwhile(Fakes):
        async def highwaters(self, *tps: TP) -> dict[TP, int]:
            ends = await super().highwaters(*tps)
            fakes.apply(Topic.INTERACTIONS, 0, 1, 50_000)
            fakes.ends["orders", 0] = 6
            return ends

    fakes.__class__ = Meanwhile
    assert Rig(fakes, clock="event").send()[0] == {0: 1_000, 1: 1_000}


def test_a_watermark_is_not_made_while_a_batch_is_in_flight() -> None:
    fakes = Fakes()
    rig = Rig(fakes)

    async def check() -> None:
        await rig.worker._turn.acquire()
        tick = asyncio.ensure_future(rig.watermarks.send())
        for _ in range(10):
            await asyncio.sleep(0)
        assert fakes.sent == []
        rig.worker._turn.release()
        await tick
        assert len(fakes.sent) == 2

    asyncio.run(check())


def test_without_partitions_no_watermark_is_sent() -> None:
    assert Rig(Fakes(numbers=())).send() == ({}, [])


# --- partitions that stand still ----------------------------------------------------------------------------


def stalled_rig(applied: int = 5, end: int = 9) -> Rig:
    fakes = Fakes()
    fakes.apply(Topic.ORDERS, 0, applied, NOW - DAY_MS)
    fakes.ends["orders", 0] = end
    return Rig(fakes)


def test_a_partition_without_progress_is_reported_at_the_third_watermark_and_now_and_then() -> None:
    rig = stalled_rig()
    reported = [number for number in range(45) if rig.send()[1] == [TP("orders", 0)]]
    assert reported == [2, 20, 40]


def test_a_partition_that_moves_does_not_stand_still() -> None:
    rig = stalled_rig(end=100)
    for offset in range(6, 40):
        assert rig.send()[1] == []
        rig.fakes.apply(Topic.ORDERS, 0, offset, NOW - DAY_MS)


def test_an_end_without_records_is_no_lag_once_it_was_fetched_again() -> None:
    """Transaction markers take offsets up and are never delivered."""
    rig = stalled_rig(applied=5, end=6)
    rig.fakes.void["orders", 0] = 6
    behind = NOW - DAY_MS
    assert [rig.send()[0][0] for _ in range(4)] == [behind, behind, behind, NOW - GRACE]
    assert rig.send() == ({0: NOW - GRACE, 1: NOW - GRACE}, [])


def test_records_that_come_after_such_an_end_are_a_lag_at_once() -> None:
    rig = stalled_rig(applied=5, end=6)
    rig.fakes.void["orders", 0] = 6
    for _ in range(5):
        rig.send()
    # Whatever is said of where reading is: these have not been asked for.
    rig.fakes.ends["orders", 0] = rig.fakes.void["orders", 0] = 12
    assert rig.send()[0][0] == NOW - DAY_MS

    rig.fakes.apply(Topic.ORDERS, 0, 12, NOW - MINUTE_MS)
    assert rig.send()[0][0] == NOW - GRACE
    rig.fakes.ends["orders", 0] = rig.fakes.void["orders", 0] = 20
    ticks = [rig.send() for _ in range(3)]
    assert [times[0] for times, _ in ticks] == [NOW - MINUTE_MS] * 3
    assert [stalled for _, stalled in ticks] == [[], [], [TP("orders", 0)]]


def test_records_that_are_on_their_way_stay_a_lag() -> None:
    rig = stalled_rig()
    assert {rig.send()[0][0] for _ in range(30)} == {NOW - DAY_MS}


def test_the_end_is_looked_for_only_if_records_seem_unread() -> None:
    """Each asking is a trip to the thread that fetches, and batches wait meanwhile."""
    rig = stalled_rig()
    for _ in range(3):
        rig.send()
    assert rig.fakes.asked == []
    rig.send()
    assert rig.fakes.asked == [TP("orders", 0)]


def test_paused_records_do_not_keep_other_partitions_from_the_day_s_end() -> None:
    fakes = Fakes()
    rig = Rig(fakes, clock="event", lateness=DAY_MS, idle_after=2_000)
    fakes.apply(Topic.ORDERS, 0, 5, 9_000)
    fakes.apply(Topic.ORDERS, 1, 5, 1_000)
    fakes.ends["orders", 0] = 9
    assert rig.send() == ({0: 9_000, 1: 1_000}, [])  # more of partition 0 is to be read, and may be older
    rig.worker.paused.append(TP("orders", 0), Chunk([SimpleNamespace(offset=5)], 0))
    # It stays unread, and is no failure of ours; others advance to where it is, even if no event comes for long.
    fakes.now += 10 * DAY_MS
    assert [rig.send() for _ in range(3)] == [({0: 9_000, 1: 9_000}, [])] * 3
    fakes.apply(Topic.ORDERS, 1, 5, 12_000)
    assert rig.send()[0] == {0: 9_000, 1: 12_000}
    assert rig.worker.metrics.lag["orders", 0] == 4
    assert rig.worker.waiting == {}
    fakes.ends["interactions", 1] = 1
    assert rig.send()[0] == {0: 9_000, 1: None}


def test_what_is_unread_is_noted_and_since_when_nothing_of_it_was_applied() -> None:
    rig = stalled_rig(applied=5, end=9)
    rig.send()
    assert rig.worker.metrics.lag["orders", 0] == 4
    assert rig.worker.metrics.lag["orders", 1] == 0
    lag, since = rig.worker.waiting["orders", 0]
    assert (lag, rig.worker.waiting.keys()) == (4, {("orders", 0)})
    rig.send()
    assert rig.worker.waiting["orders", 0] == (4, since)
    rig.fakes.apply(Topic.ORDERS, 0, 6)
    rig.send()
    assert rig.worker.waiting["orders", 0][0] == 3
    assert rig.worker.waiting["orders", 0][1] > since
    rig.fakes.apply(Topic.ORDERS, 0, 9)
    rig.send()
    assert rig.worker.waiting == {}


def test_a_watermark_that_the_broker_refuses_is_counted() -> None:
    fakes = Fakes(numbers=(0,))

    async def refused(*_: Any, **__: Any) -> "asyncio.Future[None]":
        future = asyncio.get_running_loop().create_future()
        future.set_exception(KafkaTimeoutError())
        return future

    fakes.send = refused  # type: ignore[method-assign]
    rig = Rig(fakes)
    rig.send()
    sample = rig.worker.metrics.registry.get_sample_value
    assert sample("tidemark_producer_errors_total", {"error": "KafkaTimeoutError"}) == 1


def test_a_watermark_carries_the_claim_of_its_owner() -> None:
    fakes = Fakes()
    fakes.claims[1] = Claim(7, b"owner-01")
    Rig(fakes, clock="wall").send()
    assert {number: watermark.claim for number, watermark in fakes.sent} == {0: None, 1: fakes.claims[1].encoded}


def test_a_watermark_of_another_claim_is_ignored() -> None:
    fakes = Fakes()
    rig = Rig(fakes)
    ours, theirs = Claim(8, b"owner-02"), Claim(7, b"owner-01")
    fakes.claims[0] = ours

    def latest(*ticks: Watermark) -> Watermark | None:
        records = [SimpleNamespace(value=msgspec.json.encode(tick)) for tick in ticks]
        return rig.worker._latest_watermark(fakes.partitions[0], Chunk(records, 0))

    mine = Watermark(NOW, ours.encoded)
    assert (
        latest(Watermark(NOW - 1, ours.encoded), mine, Watermark(NOW + 1, theirs.encoded), Watermark(NOW + 2)) == mine
    )
    assert latest(Watermark(NOW, theirs.encoded), Watermark(NOW)) is None


def test_time_waits_for_an_open_transaction_which_is_no_backlog() -> None:
    fakes = Fakes()
    fakes.apply(Topic.ORDERS, 0, 5, 1_000)
    fakes.open["orders", 0] = 3
    rig = Rig(fakes)
    for _ in range(4):
        assert rig.send() == ({0: 1_000, 1: NOW - GRACE}, [])
    assert not rig.worker.waiting
    assert rig.worker.metrics.lag["orders", 0] == 0
    assert rig.worker.metrics.in_transaction == {("orders", 0): 3}
    fakes.open.clear()
    assert rig.send()[0] == {0: NOW - GRACE, 1: NOW - GRACE}


# --- logs that lost records -----------------------------------------------------------------------------------


def _lossy(fakes: Fakes) -> tuple[Rig, list[tuple[TP, int]]]:
    """Return a rig whose worker only notes the losses that it is asked to note."""
    rig, noted = Rig(fakes), list[tuple[TP, int]]()

    async def note_loss(tp: TP, end: int) -> bool:
        noted.append((tp, end))
        return fakes.partitions[tp.partition].lose(tp.topic, end)

    rig.worker.note_loss = note_loss  # type: ignore[method-assign]
    return rig, noted


def test_time_stands_still_once_a_log_ends_before_what_is_applied(caplog: pytest.LogCaptureFixture) -> None:
    fakes = Fakes()
    fakes.apply(Topic.ORDERS, 0, 5, NOW - DAY_MS)
    fakes.ends["orders", 0], fakes.fetched_at = 2, 1
    rig, noted = _lossy(fakes)
    assert rig.send()[0] == {1: NOW - GRACE}  # nothing was fetched since: the list alone proves nothing
    assert not noted
    fakes.fetched_at = 2**62
    assert rig.send()[0] == {1: NOW - GRACE}
    assert noted == [(TP("orders", 0), 2)]
    assert "ends at offset 2, but the records before 5 are applied" in caplog.text
    fakes.ends["orders", 0] = 9  # the new log grows beyond what is applied: it is another log all the same
    assert rig.send()[0] == {1: NOW - GRACE}
    assert fakes.partitions[0].accept_loss("orders")
    assert fakes.partitions[0].next_offset(Topic.ORDERS) == 0
    assert rig.send()[0].keys() == {0, 1}
    assert caplog.text.count("accept-loss orders") == 1


def test_a_list_of_ends_that_is_too_low_is_no_loss(caplog: pytest.LogCaptureFixture) -> None:
    fakes = Fakes()
    fakes.apply(Topic.ORDERS, 0, 5, NOW - DAY_MS)
    fakes.ends["orders", 0], fakes.fetched["orders", 0] = 2, 5
    rig, noted = _lossy(fakes)
    rig.send()
    assert rig.send()[0] == {0: NOW - GRACE, 1: NOW - GRACE}
    assert not noted
    assert not caplog.records


def test_time_stands_still_while_an_input_topic_is_not_assigned(caplog: pytest.LogCaptureFixture) -> None:
    fakes = Fakes(missing={TP("interactions", 1)})
    rig = Rig(fakes)
    assert rig.send()[0] == {0: NOW - GRACE}
    assert rig.send()[0] == {0: NOW - GRACE}
    assert caplog.text.count("not assigned are interactions") == 1
    fakes.missing.clear()
    assert rig.send()[0] == {0: NOW - GRACE, 1: NOW - GRACE}
