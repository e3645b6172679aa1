"""What the shuffle wrote, read again: the history of each customer of a shard, and the campaigns, in order.

Events are in the order of their instants. Ties follow the rank of the topic, then the type and the id of the event, so
that the order does not depend on the order of lines or files (docs/contract.md, "Ties").
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec

from models.events import Campaign, OrderPlaced, Topic, content_of, order_of
from streams.partition.campaigns import Announcements
from streams.replay.segments import SegmentFile
from streams.replay.shuffle import Forgotten, PartReport, ShuffledEvent, decode_campaigns, decode_events
from streams.replay.workspace import Work


class History(NamedTuple):
    """All events of a customer, in order. `partition` is that of their topic; None if they come from files."""

    customer_id: str
    events: list[Any]
    partition: int | None


class TakenIn(msgspec.Struct):
    """The campaigns that one partition's customers hear of, in order, as a partition takes them in.

    `known` is what the partition remembers of them, `notes` counts those that it does not keep.
    """

    heard: list[Campaign] = []
    known: Announcements = msgspec.field(default_factory=Announcements)
    notes: dict[str, int] = {}


def histories(work: Work, shard: int) -> Iterator[History]:
    """Yield the history of each customer of a shard, in the order of their ids."""
    found: defaultdict[str, list[Any]] = defaultdict(list)
    partitions: dict[str, int] = {}
    for part in work.plan.parts:
        with SegmentFile(work.part(part.number), PartReport) as done:
            chunks = done.report.chunks
        for chunk in range(chunks):
            with SegmentFile(work.chunk(part.number, chunk), PartReport) as file:
                shuffled = decode_events(file.read(shard))
            for customer_id, event in shuffled:
                found[customer_id].append(event)
            if part.partition is not None:
                partitions.update(dict.fromkeys((customer_id for customer_id, _ in shuffled), part.partition))
    for customer_id in sorted(found):
        partition = partitions.get(customer_id)
        events = in_order(found.pop(customer_id), offsets=partition is not None)
        if events:
            yield History(customer_id, events, partition)


def in_order(events: list[ShuffledEvent], *, offsets: bool) -> list[Any]:
    """Return events in order, without what an erasure removes, and without the erasures.

    Events of one type and id at one instant stay in the order of their `offsets`, or follow their content without any.
    """
    kinds = set(map(type, events))
    # Most customers only place orders: no call an event.
    key: Any = attrgetter("at", "order") if kinds == {OrderPlaced} else _order
    events.sort(key=key)
    if not offsets and len(set(map(key, events))) < len(events):
        events.sort(key=lambda event: (_order(event), content_of(event)))  # type: ignore[arg-type]  # no Forgotten in files
    if Forgotten not in kinds:
        return events
    last = max(place for place, event in enumerate(events) if type(event) is Forgotten)
    return events[last + 1 :]


def _order(event: ShuffledEvent) -> tuple[int, int, str, int]:
    if isinstance(event, Forgotten):
        return event.at, Topic.INTERACTIONS + 1, "", 0  # what happened at the very same instant is forgotten too
    return order_of(event)


def campaigns_of(work: Work) -> dict[int | None, list[Campaign]]:
    """Return campaigns in order, by the partition of their topic or under None if they come from files."""
    found: defaultdict[int | None, list[Campaign]] = defaultdict(list)
    for part in work.plan.parts:
        if part.topic is Topic.CAMPAIGNS:
            with SegmentFile(work.part(part.number), PartReport) as done:
                found[part.partition] += decode_campaigns(done.read(1))
    for campaigns in found.values():
        campaigns.sort(key=lambda each: (each.at, each.campaign, content_of(each)))
    return found


def take_in(campaigns: Sequence[Campaign]) -> TakenIn:
    """Return what a partition keeps of campaigns in order: those of one instant wait for each other, none longer."""
    taken = TakenIn([], Announcements(), {})
    for campaign in campaigns:
        taken.known.waiting = [each for each in taken.known.waiting if each.at == campaign.at]
        note = taken.known.add(campaign)
        if note is None:
            taken.heard.append(campaign)
        else:
            taken.notes[note] = taken.notes.get(note, 0) + 1
    taken.known.waiting = []
    return taken
