"""The second half of a backfill: a shard's customers are decided about, one after another, over their whole history.

Events of a customer are taken in the order of their instants, ties by the rank of their topic and then as they came, as
settled decisions do live. What was decided is written as runs, which are merged afterwards.
"""

from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec

from models.customer.state import Customer
from models.engine.decide import Engine
from models.events import OrderPlaced, Topic, rank
from models.outputs import CareAction, Decisions, TierChange
from streams.replay.outputs import Figures, count_customers, count_decisions, final_line
from streams.replay.segments import SegmentFile, write_segments
from streams.replay.shuffle import BEGINNING, Forgotten, PartReport, Spilled, decode_events
from streams.replay.sorted_runs import Entry, write_run
from streams.replay.workspace import Work

#: The outputs that are sorted, by the stem of their file.
CHANGES, ACTIONS, CUSTOMERS, ROWS = "tier-changes", "care-actions", "customers", "rows"
SORTED = (CHANGES, ACTIONS, CUSTOMERS)

#: So many customers are decided about before what was decided is encoded, or counted.
BLOCK = 64

_encode = msgspec.json.Encoder().encode


class History(NamedTuple):
    """All events of a customer, in order. `partition` is that of their topic; None where they come from files."""

    customer_id: str
    events: list[Any]
    partition: int | None


def gather(work: Work, shard: int, until: int | None) -> Figures:
    """Decide about the customers of a shard up to `until` (ms), and write the runs; return the counts."""
    engine = Engine(work.timeline())
    entries: dict[str, list[Entry]] = {CHANGES: [], ACTIONS: [], CUSTOMERS: []}
    rows: list[Entry] = []
    figures = Figures()
    everybody = histories(work, shard)
    # What was decided is encoded while it is still in the processor's caches.
    while block := list(islice(everybody, BLOCK)):
        decisions = Decisions()
        customers = [decide(engine, history, until, decisions) for history in block]
        entries[CHANGES] += map(_change_entry, decisions.changes)
        entries[ACTIONS] += map(_action_entry, decisions.actions)
        entries[CUSTOMERS] += (_customer_entry(engine, customer, until) for customer in customers)
        if work.plan.request.keep_rows:
            rows += map(_row_entry, block, customers)
        figures.add(count_decisions(decisions.changes, decisions.actions, decisions.refusals))
        figures.add(count_customers(customers))
        figures.add(Figures(notes=dict(decisions.counts)))
    for name in SORTED:
        write_run(work.run(name, shard), sorted(entries[name]))
    if work.plan.request.keep_rows:
        write_run(work.run(ROWS, shard), rows)
    write_segments(work.shard(shard), [], lambda: figures)
    return figures


def histories(work: Work, shard: int) -> Iterator[History]:
    """Yield the history of each customer of a shard, in the order of their ids."""
    found: defaultdict[str, list[Any]] = defaultdict(list)
    partitions: dict[str, int] = {}
    for part in work.plan.parts:
        with SegmentFile(work.part(part.number), PartReport) as done:
            chunks = done.report.chunks
        for chunk in range(chunks):
            with SegmentFile(work.chunk(part.number, chunk), PartReport) as file:
                spilled = decode_events(file.read(shard))
            for customer_id, event in spilled:
                found[customer_id].append(event)
            if part.partition is not None:
                partitions.update(dict.fromkeys((customer_id for customer_id, _ in spilled), part.partition))
    for customer_id in sorted(found):
        events = _in_order(found.pop(customer_id))
        if events:
            yield History(customer_id, events, partitions.get(customer_id))


def decide(engine: Engine, history: History, until: int | None, decisions: Decisions) -> Customer:
    """Return a customer after their whole history and, where there is one, at `until` (ms)."""
    customer = Customer(history.customer_id)
    ingest = engine.ingest
    for event in history.events:
        ingest(customer, event, decisions)
    if until is not None:
        engine.advance(customer, until, decisions)
    return customer


def _in_order(events: list[Spilled]) -> list[Any]:
    """Return events by instant and rank, without what an erasure has them forget, and without the erasures."""
    if set(map(type, events)) == {OrderPlaced}:
        events.sort(key=attrgetter("at"))  # of one rank, as most customers have it: no call an event
        return events
    events.sort(key=_order)
    last = max((place for place, event in enumerate(events) if type(event) is Forgotten), default=None)
    return events if last is None else events[last + 1 :]


def _order(event: Spilled) -> tuple[int, int]:
    if isinstance(event, Forgotten):
        return event.at, Topic.INTERACTIONS + 1  # what bears the very same instant is forgotten too
    return BEGINNING if event.at is None else event.at, rank(event)


def _change_entry(change: TierChange) -> Entry:
    """The key orders by (effective_at, customer_id, scheme, sequence): texts of instants order as instants do."""
    at = change.effective_at[:-1]
    return f"{at}\0{change.customer_id}\0{change.scheme}\0{change.sequence:012d}", _encode(change)


def _action_entry(action: CareAction) -> Entry:
    return f"{action.due_at[:-1]}\0{action.customer_id}\0{action.rule}\0{action.action_id}", _encode(action)


def _row_entry(history: History, customer: Customer) -> Entry:
    return f"{history.partition or 0:06d}\0{history.customer_id}", customer.to_row()


def _customer_entry(engine: Engine, customer: Customer, until: int | None) -> Entry:
    return customer.customer_id, final_line(engine, customer, until)
