"""Deciding a shard whose customers do not depend on each other: one after another, over their whole history.

The engine takes a customer's events and the campaigns that reach them in order. `streams.replay.coupled` decides
policies in which customers do depend on each other.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

from models.customer.state import Customer
from models.engine.decide import Engine
from models.events import Campaign
from models.outputs import Decisions
from streams.replay.collect import Collector, ShardReport
from streams.replay.histories import History, campaigns_of, histories, take_in
from streams.replay.workspace import Work

#: Customers that are decided about before what was decided is encoded, or counted: it is still in the caches then.
BLOCK = 64

T = TypeVar("T")


def decide_shard(work: Work, shard: int, until: int | None) -> ShardReport:
    """Decide about the customers of a shard up to `until` (ms), and write the runs; return the report."""
    engine, collector = Engine(work.timeline()), Collector(work, shard, until)
    campaigns = heard_campaigns(work)
    for block in blocks(histories(work, shard)):
        decisions = Decisions()
        customers = [
            decide(engine, history, campaigns.get(history.partition, ()), until, decisions) for history in block
        ]
        collector.decided(decisions)
        collector.finished(engine, zip((history.partition or 0 for history in block), customers, strict=True))
    return collector.close()


def blocks(items: Iterator[T]) -> Iterator[list[T]]:
    """Yield items in lists of `BLOCK`."""
    while block := list(islice(items, BLOCK)):
        yield block


def heard_campaigns(work: Work) -> dict[int | None, list[Campaign]]:
    """Return the campaigns that customers hear of, by partition; those that a partition does not keep are left out."""
    return {partition: take_in(campaigns).heard for partition, campaigns in campaigns_of(work).items()}


def decide(
    engine: Engine, history: History, campaigns: Iterable[Campaign], until: int | None, decisions: Decisions
) -> Customer:
    """Return a customer after their whole history and, if there is such an instant, at `until` (ms).

    A campaign comes after all events of its instant, and after what time alone does up to it.
    """
    customer, ingest = Customer(history.customer_id), engine.ingest
    events = iter(history.events)
    event = next(events, None)
    for campaign in campaigns if engine.timeline.announces else ():  # else no rule answers any
        while event is not None and (event.at is None or event.at <= campaign.at):
            ingest(customer, event, decisions)
            event = next(events, None)
        engine.advance(customer, campaign.at, decisions)
        if engine.is_addressed(customer, campaign):
            engine.announce(customer, campaign, decisions)
    if event is not None:
        ingest(customer, event, decisions)
    for event in events:
        ingest(customer, event, decisions)
    if until is not None:
        engine.advance(customer, until, decisions)
    return customer
