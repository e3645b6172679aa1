"""Counting what two policies do to the customers of a shard. Counts of shards add up; nothing is kept of a customer.

Except for what was asked for by name, and for the numbers that say where thresholds would lie.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from models.customer import Customer
from models.engine import Engine
from models.instants import DAY_MS, parse_instant, to_datetime
from models.outputs import CareAction, Decisions, Move, TierCutoffs
from models.policy import Timeline
from streams.backfill.gather import decide, histories
from streams.backfill.work import Work

#: Age bands of the fairness table, by the first age that is not in them any more.
AGE_BANDS = ((25, "under 25"), (35, "25-34"), (45, "35-44"), (55, "45-54"), (65, "55-64"))
AGE = "age"
UNKNOWN = "unknown"
_LONGEST_VALUE = 40
#: A shard tells so many values of an attribute apart at most.
_MAX_VALUES = 200
OTHER = "other"

Counts = dict[str, Any]


class Side(msgspec.Struct):
    """What one policy does: customers per tier, changes of that per day, moves, actions, and metrics by scheme.

    `spent`: what the actions that are to be sent took of each budget, over the whole history.
    `days` are by scheme, tier and day (days since 1970 in UTC). `cutoffs` are in order, where any were computed.
    """

    held: dict[str, dict[str, int]] = {}
    days: dict[str, dict[str, dict[int, int]]] = {}
    moves: dict[str, dict[str, int]] = {}
    actions: dict[str, int] = {}
    spent: dict[str, int] = {}
    metrics: dict[str, dict[str, list[float]]] = {}
    cutoffs: list[TierCutoffs] = []


class NamedMove(msgspec.Struct, frozen=True):
    """A move of a customer who was asked for by name. `side` is 0 or 1; `at` in ms."""

    customer_id: str
    side: int
    scheme: str
    from_tier: str | None
    to_tier: str
    at: int


class Population(msgspec.Struct):
    """Both sides of some customers.

    `flows` are by scheme, tier under A and tier under B; `fair` by attribute, value, scheme and what is counted.
    """

    sides: tuple[Side, Side]
    customers: int = 0
    flows: dict[str, dict[str, dict[str, int]]] = {}
    fair: dict[str, dict[str, dict[str, dict[str, int]]]] = {}
    named: list[NamedMove] = []
    known: list[str] = []

    def add(self, other: "Population") -> None:
        """Add what other customers counted."""
        self.customers += other.customers
        for mine, theirs in zip(self.sides, other.sides, strict=True):
            for name in ("held", "days", "moves", "actions", "spent"):
                add_counts(getattr(mine, name), getattr(theirs, name))
            for scheme, metrics in theirs.metrics.items():
                for metric, values in metrics.items():
                    mine.metrics.setdefault(scheme, {}).setdefault(metric, []).extend(values)
        add_counts(self.flows, other.flows)
        add_counts(self.fair, other.fair)
        self.named += other.named
        self.known += other.known


def empty() -> Population:
    """Return the counts of nobody."""
    return Population((Side(), Side()))


def add_counts(mine: Counts, theirs: Counts) -> None:
    """Add nested counts to others in place."""
    for name, value in theirs.items():
        if isinstance(value, dict):
            add_counts(mine.setdefault(name, {}), value)
        else:
            mine[name] = mine.get(name, 0) + value


class Kept(NamedTuple):
    """What is looked at besides the tiers: attributes of the fairness table, customers whose moves are kept."""

    attributes: tuple[str, ...] = ("region", "gender", AGE)
    names: frozenset[str] = frozenset()


def count_shard(work: Work, shard: int, until: int | None, kept: Kept) -> Population:
    """Decide about a shard's customers under both policies, up to `until` (ms), and count."""
    engines = tuple(Engine(work.timeline(place)) for place in range(2))
    found = empty()
    for history in histories(work, shard):
        held: list[dict[str, str]] = []
        found.customers += 1
        customer = None
        for place, engine in enumerate(engines):
            moves: list[Move] = []
            decisions = Decisions(moves=moves)
            customer = decide(engine, history, until, decisions)
            side = found.sides[place]
            count_moves(side, moves)
            count_actions(side, decisions.actions, engine.timeline)
            held.append(count_standing(side, engine, customer, until))
            if history.customer_id in kept.names:
                found.named += (NamedMove(history.customer_id, place, *move[:3], move.at) for move in moves)
        if history.customer_id in kept.names:
            found.known.append(history.customer_id)
        compare(found, held)
        if customer is not None:
            count_fairness(found, engines, held, attributes_of(customer, kept.attributes, until))
    return found


def _count(counts: dict[str, int], *names: str) -> None:
    for name in names:
        counts[name] = counts.get(name, 0) + 1


def count_moves(side: Side, moves: Iterable[Move]) -> None:
    """Count tier changes, and whom they leave in each tier, day by day."""
    for scheme, old, new, direction, at in moves:
        day, days = at // DAY_MS, side.days.setdefault(scheme, {})
        for tier, step in ((old, -1), (new, 1)):
            if tier is not None:
                of_tier = days.setdefault(tier, {})
                of_tier[day] = of_tier.get(day, 0) + step
        _count(side.moves.setdefault(scheme, {}), direction)


def count_standing(side: Side, engine: Engine, customer: Customer, until: int | None) -> dict[str, str]:
    """Count who stands where, and note the metrics as of the end; return the tiers by scheme."""
    at = customer.cursor if until is None or customer.cursor is None else max(until, customer.cursor)
    tiers = {name: standing.tier for name, standing in customer.standings.items()}
    for scheme, tier in tiers.items():
        _count(side.held.setdefault(scheme, {}), tier)
    shown = engine.tiers(customer, at)
    if shown is not None:
        policy = engine.timeline.at(at or 0)
        for each in policy.schemes:
            metrics = side.metrics.setdefault(each.name, {})
            for index in each.shown:
                name = policy.gauges[index].metric.name
                value = shown.metrics[name]
                if value is not None:
                    metrics.setdefault(name, []).append(float(value))
    return tiers


def count_actions(side: Side, actions: Iterable[CareAction], timeline: Timeline) -> None:
    """Count care actions by rule, and what they take of budgets."""
    for action in actions:
        _count(side.actions, action.rule)
        if timeline.budgeted and not action.holdout:
            policy = timeline.at(parse_instant(action.due_at))
            for budget in policy.governance.budgets:
                if budget.covers(action.tier, action.kind):
                    side.spent[budget.name] = side.spent.get(budget.name, 0) + policy.actions[action.rule].cost


def compare(found: Population, held: list[dict[str, str]]) -> None:
    """Count a customer among those who go from one tier to another; `held` are the tiers under A and B by scheme."""
    for scheme in held[0].keys() & held[1].keys():
        _count(found.flows.setdefault(scheme, {}).setdefault(held[0][scheme], {}), held[1][scheme])


def count_fairness(
    found: Population, engines: tuple[Engine, ...], held: list[dict[str, str]], values: dict[str, str]
) -> None:
    """Count a customer under their values of attributes."""
    for scheme in held[0].keys() & held[1].keys():
        ranks = [_rank(engine, scheme, tiers[scheme]) for engine, tiers in zip(engines, held, strict=True)]
        moved = "up" if ranks[1] > ranks[0] else "down" if ranks[1] < ranks[0] else "stays"
        told = ("customers", moved, f"A {held[0][scheme]}", f"B {held[1][scheme]}")
        for attribute, value in values.items():
            of_attribute = found.fair.setdefault(attribute, {})
            kept = value if value in of_attribute or len(of_attribute) < _MAX_VALUES else OTHER
            _count(of_attribute.setdefault(kept, {}).setdefault(scheme, {}), *told)


def _rank(engine: Engine, scheme: str, tier: str) -> int:
    ranks = next((each.ranks for each in engine.timeline.latest.schemes if each.name == scheme), {})
    return ranks.get(tier, -1)


def attributes_of(customer: Customer, attributes: Iterable[str], until: int | None) -> dict[str, str]:
    """Return a customer's value of each attribute; the age is that at `until` (ms), in bands."""
    profile = customer.profile
    values = {}
    for name in attributes:
        value = UNKNOWN
        if profile is not None:
            value = str(profile.attributes.get(name, UNKNOWN))[:_LONGEST_VALUE]
            if name == AGE and profile.birthday is not None and until is not None:
                value = _age_band(profile.birthday, until)
        values[name] = value
    return values


def _age_band(birthday: str, until: int) -> str:
    year, _, rest = birthday.partition("-")
    if not year.isdecimal():
        return UNKNOWN  # without a year, or lunar
    today = to_datetime(until).date()
    age = today.year - int(year) - ((today.month, today.day) < (int(rest[:2]), int(rest[3:])))
    return next((band for limit, band in AGE_BANDS if age < limit), "65 and over")
