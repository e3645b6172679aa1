"""Figures of a simulation, from its counts: what tables and pages show. Pure arithmetic."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from models.errors import UnusableInput
from models.instants import DAY_MS
from models.outputs import TierCutoffs
from models.policy.timeline import Timeline
from streams.report.charts import Daily
from streams.simulate.population import OTHER, Population, Side

#: Metrics of which less is better: a threshold on them bounds from above.
_LESS_IS_BETTER = frozenset({"recency_days", "overdue", "rhythm_days", "first_order_days"})
#: A table of an attribute has so many values at most; the rest is added up.
_MAX_VALUES = 20


class ShareError(UnusableInput):
    """A wanted share cannot be used. The message says what is allowed."""


def parse_shares(texts: Iterable[str]) -> dict[str, float]:
    """Return shares (0 to 1) by tier of texts such as `gold=5`, in percent. Raises ShareError."""
    shares = {}
    for text in texts:
        tier, _, percent = text.partition("=")
        try:
            shares[tier] = float(percent.removesuffix("%")) / 100
        except ValueError:
            shares[tier] = -1.0
        if not 0 <= shares[tier] <= 1:
            raise ShareError(f"--share: found {text!r}; allowed is TIER=PERCENT, as in gold=5")
    return shares


class ThresholdFor(NamedTuple):
    """Where a threshold would have to lie so that `share` of the customers (0 to 1) reach it, by that metric alone."""

    scheme: str
    tier: str
    share: float
    metric: str
    op: str
    threshold: float


def ladder(timeline: Timeline, scheme: str) -> list[str]:
    """Return the tiers of a scheme, lowest first; none where the policy has no such scheme."""
    return next(([tier.name for tier in each.tiers] for each in timeline.latest.schemes if each.name == scheme), [])


def schemes(timelines: Sequence[Timeline]) -> list[str]:
    """Return the schemes of the policies, in their order."""
    return list(dict.fromkeys(scheme.name for timeline in timelines for scheme in timeline.latest.schemes))


def daily(days: Mapping[str, Mapping[int, int]], tiers: Sequence[str], last: int | None) -> Daily:
    """Return the population of each tier by day, up to an instant (ms)."""
    known = [day for changes in days.values() for day in changes]
    first = min(known, default=0)
    stop = max([*known, first if last is None else last // DAY_MS]) + 1
    series: dict[str, list[int]] = {}
    for tier in tiers:
        held, changes = 0, days.get(tier, {})
        series[tier] = [held := held + changes.get(day, 0) for day in range(first, stop)]
    return Daily(first, series)


def cutoffs(side: Side, scheme: str) -> list[TierCutoffs]:
    """Return a scheme's cut-offs over time."""
    return [each for each in side.cutoffs if each.scheme == scheme]


def needs(population: Population, timelines: Sequence[Timeline], wanted: Mapping[str, float]) -> list[ThresholdFor]:
    """Return where the thresholds of B would have to lie for a share of the customers in each tier and above.

    `wanted` gives shares (0 to 1) by tier; the others are those that the tiers have under A.
    """
    found = []
    for scheme in schemes(timelines[1:]):
        held = population.sides[0].held.get(scheme) or population.sides[1].held.get(scheme, {})
        total = sum(held.values())
        above = 0.0
        ordered = {metric: sorted(values) for metric, values in population.sides[1].metrics.get(scheme, {}).items()}
        for tier in reversed(ladder(timelines[1], scheme)[1:]):
            above += wanted.get(tier, held.get(tier, 0) / total if total else 0.0)
            for metric, values in ordered.items():
                need = _cut(values, above, total, metric)
                if need is not None:
                    found.append(ThresholdFor(scheme, tier, above, metric, *need))
    return found


def _cut(values: list[float], share: float, total: int, metric: str) -> tuple[str, float] | None:
    """Return (op, threshold) that so many of all customers reach; None where too few have a value at all."""
    count = round(share * total)
    if not 0 < count <= len(values):
        return None
    return ("<=", values[count - 1]) if metric in _LESS_IS_BETTER else (">=", values[-count])


def fairness(population: Population, scheme: str) -> dict[str, list[tuple[str, dict[str, int]]]]:
    """Return, by attribute, (value, counts) of the most frequent values; the rest is added up as `other`."""
    tables = {}
    for attribute, values in population.fair.items():
        rows = [(value, counts[scheme]) for value, counts in values.items() if scheme in counts and value != OTHER]
        rows.sort(key=lambda row: (-row[1]["customers"], row[0]))
        rest = [counts for _, counts in rows[_MAX_VALUES:]]
        rest += [values[OTHER][scheme]] if scheme in values.get(OTHER, {}) else []
        if rest:
            names = {name for counts in rest for name in counts}
            rows = [*rows[:_MAX_VALUES], (OTHER, {name: sum(c.get(name, 0) for c in rest) for name in names})]
        tables[attribute] = rows
    return tables


def summary(population: Population, timelines: Sequence[Timeline]) -> dict[str, Any]:
    """Return what the summary says in a line each: how many customers, and how many hold another tier under B."""
    moved = {
        scheme: sum(count for old, to in flows.items() for new, count in to.items() if old != new)
        for scheme, flows in population.flows.items()
    }
    return {
        "customers": population.customers,
        "policies": [timeline.latest.version for timeline in timelines],
        "moved": moved,
    }
