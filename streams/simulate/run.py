"""A simulation from its request to its counts: read and decoded once, decided under both policies."""

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from config.settings import Settings
from models.cutoffs import ranked
from models.errors import UnusableInput
from models.policy import Timeline
from streams.backfill import job
from streams.backfill.command import Asked, plan_of
from streams.backfill.pool import pool_of
from streams.backfill.work import working_in
from streams.simulate.population import Kept, Population, count_shard, empty


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
    if any(map(ranked, timelines)):
        raise SimulateError("a policy ranks customers at each day's end; only `cutoffs: fixed` can be simulated")
    plan = plan_of(asked, timelines, settings)
    with tempfile.TemporaryDirectory(prefix="tidemark-") as directory, working_in(Path(directory), settings) as work:
        work.begin(plan, policies)
        with pool_of(min(processes, max(len(plan.parts), plan.shards))) as pool:
            reading = job.read_parts(work, pool, progress)
            until, found = job.until_of(work), empty()
            count = partial(count_shard, work, until=until, kept=kept)
            for done, (_, population) in enumerate(pool.each(count, range(plan.shards)), start=1):
                found.add(population)
                progress("deciding", reading.events * done // plan.shards, reading.events)
    found.named.sort(key=lambda move: (move.customer_id, move.side, move.at))
    missing = sorted(kept.names - set(found.known))
    if missing:
        raise SimulateError(f"customers that do not occur in the history: {', '.join(missing)}")
    return found, until
