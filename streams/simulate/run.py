"""A simulation from its request to its counts: read and decoded once, decided under both policies.

Customers are decided about one after another, unless a policy couples them: then in the order of time.
"""

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from config.settings import Settings
from models.errors import UnusableInput
from models.policy.timeline import Timeline
from streams.replay import job
from streams.replay.command import Asked, plan_of
from streams.replay.outputs import read_summary
from streams.replay.process_pool import Pool, pool_of
from streams.replay.workspace import Work, working_in
from streams.simulate.counting import count_shard
from streams.simulate.coupled import SideResult, compare, decide_side
from streams.simulate.population import Kept, Population, empty

#: Called with how much is decided: (done, total), in any unit.
OnProgress = Callable[[int, int], None]


class SimulateError(UnusableInput):
    """The two policies cannot be compared over one history. The message says why."""


def simulate(
    asked: Asked,
    policies: Sequence[Path],
    timelines: Sequence[Timeline],
    progress: job.Progress,
    *,
    kept: Kept,
    processes: int = 1,
    settings: Settings | None = None,
) -> tuple[Population, int | None]:
    """Return the counts of two policies over the history asked for, and the instant (ms) to which time was advanced.

    Raises UnusableInput, BrokerError, PoolError.
    """
    monies = [timeline.latest.money for timeline in timelines]
    if any((money.currency, money.rates) != (monies[0].currency, monies[0].rates) for money in monies):
        raise SimulateError("the policies count in different currencies, or at different rates; amounts are read once")
    plan = plan_of(asked, timelines, settings)
    coupled = plan.request.coupled
    with tempfile.TemporaryDirectory(prefix="tidemark-") as directory, working_in(Path(directory), settings) as work:
        work.begin(plan, policies)
        with pool_of(min(processes, max(len(plan.parts), len(policies) if coupled else plan.shards))) as pool:
            reading = job.read_parts(work, pool, progress)
            first = job.note_letters(work, reading)
            events = reading.events
            until = job.until_of(work)
            if coupled:
                job.sort_shards(work, pool, progress)

            def tell(done: int, total: int) -> None:
                progress("deciding", events * done // total, events)

            found = (
                _decide_coupled(work, pool, until, kept, tell)
                if coupled
                else _decide_independent(work, pool, until, kept, tell)
            )
    reading.figures.notes = found.sides[0].notes
    found.read = read_summary(reading.figures)
    found.read["dead_letters"]["first"] = first
    found.named.sort(key=lambda move: (move.customer_id, move.side, move.at))
    missing = sorted(kept.names - set(found.known))
    if missing:
        raise SimulateError(f"customers that do not occur in the history: {', '.join(missing)}")
    return found, until


def _decide_independent(work: Work, pool: Pool, until: int | None, kept: Kept, tell: OnProgress) -> Population:
    """Decide about one customer after another, under both policies."""
    found, shards = empty(), work.plan.shards
    count = partial(count_shard, work, until=until, kept=kept)
    for done, (_, population) in enumerate(pool.each(count, range(shards)), start=1):
        found.add(population)
        tell(done, shards)
    return found


def _decide_coupled(work: Work, pool: Pool, until: int | None, kept: Kept, tell: OnProgress) -> Population:
    """Decide under one policy after the other, about all customers, who depend on each other."""
    outcomes: dict[int, SideResult] = {}
    decide = partial(decide_side, work=work, until=until, kept=kept)
    for place, outcome in pool.each(decide, range(2)):
        outcomes[place] = outcome
        tell(len(outcomes), 2)
    return compare([outcomes[0], outcomes[1]], [work.timeline(place) for place in range(2)], kept)
