"""Counting what two policies do to customers.

Moves and customers are first counted as they are, in one step each, and sorted into tables once: many are alike.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from models.customer.state import Customer
from models.engine.decide import Engine
from models.instants import DAY_MS, parse_instant, to_datetime
from models.outputs import CareAction, Decisions, Direction, Move
from models.policy.evaluation import facts_of
from models.policy.timeline import Timeline
from streams.replay.decide import blocks, decide, heard_campaigns
from streams.replay.histories import histories
from streams.replay.workspace import Work
from streams.simulate.population import AGE, OTHER, UNKNOWN, Kept, NamedMove, Population, Side, add_counts, empty

#: Age bands of the fairness table, by the first age that is not in them any more.
AGE_BANDS = ((25, "under 25"), (35, "25-34"), (45, "35-44"), (55, "45-54"), (65, "55-64"))
_LONGEST_VALUE = 40
#: A shard tells so many values of an attribute apart at most.
_MAX_VALUES = 200

K = TypeVar("K", str, int)

#: Where a customer stands, by scheme.
Tiers = tuple[tuple[str, str], ...]
#: How a customer ends: the values of attributes, the tiers under A and under B.
End = tuple[tuple[str, ...], Tiers, Tiers]
#: A move as it is counted: scheme, the tiers from and to, direction, day since 1970 (UTC).
Moved = tuple[str, str | None, str, Direction, int]


def count_shard(work: Work, shard: int, until: int | None, kept: Kept) -> Population:
    """Decide about a shard's customers under both policies, up to `until` (ms), and count."""
    engines = tuple(Engine(work.timeline(place)) for place in range(2))
    found, ends = empty(), Counter[End]()
    moved = Counter[Moved](), Counter[Moved]()
    campaigns = heard_campaigns(work)
    for block in blocks(histories(work, shard)):
        tiers: tuple[list[Tiers], list[Tiers]] = ([], [])
        values: list[tuple[str, ...]] = []
        for place, (engine, side) in enumerate(zip(engines, found.sides, strict=True)):
            moves: list[Move] = []
            decisions = Decisions(moves=moves)
            for history in block:
                named = len(moves)
                customer = decide(engine, history, campaigns.get(history.partition, ()), until, decisions)
                tiers[place].append(tiers_of(customer))
                note_metrics(side, engine, customer, until)
                if place:  # it is the same under both
                    values.append(attributes_of(customer, kept.attributes, until))
                if history.customer_id in kept.names:
                    found.named += (NamedMove(history.customer_id, place, *each[:3], each.at) for each in moves[named:])
            moved[place].update(by_day(moves))
            count_actions(side, decisions.actions, engine.timeline)
            add_counts(side.notes, decisions.counts)
        ends.update(zip(values, *tiers, strict=True))
        found.known += [history.customer_id for history in block if history.customer_id in kept.names]
    for side, of_side in zip(found.sides, moved, strict=True):
        count_moves(side, of_side)
    count_ends(found, ends, kept, engines)
    return found


def by_day(moves: Iterable[Move]) -> Iterator[Moved]:
    """Yield moves as they are counted."""
    return ((scheme, old, new, direction, at // DAY_MS) for scheme, old, new, direction, at in moves)


def count_moves(side: Side, moved: Counter[Moved]) -> None:
    """Enter tier changes, and whom they leave in each tier, day by day."""
    for (scheme, old, new, direction, day), count in moved.items():
        days = side.days.setdefault(scheme, {})
        if old is not None:
            _add(days.setdefault(old, {}), day, -count)
        _add(days.setdefault(new, {}), day, count)
        _add(side.moves.setdefault(scheme, {}), direction, count)


def count_actions(side: Side, actions: Iterable[CareAction], timeline: Timeline) -> None:
    """Count care actions by rule, and what they take of budgets."""
    for action in actions:
        _add(side.actions, action.rule)
        if timeline.budgeted and not action.holdout:
            policy = timeline.at(parse_instant(action.due_at))
            for budget in policy.governance.budgets:
                if budget.covers(action.tier, action.kind):
                    _add(side.spent, budget.name, policy.actions[action.rule].cost)


def count_ends(found: Population, ends: Counter[End], kept: Kept, engines: Sequence[Engine]) -> None:
    """Enter customers by the tiers they end in: per side, from A to B, and under their values of attributes."""
    ladders = [{scheme.name: scheme.ranks for scheme in engine.timeline.latest.schemes} for engine in engines]
    for (values, before, after), count in ends.items():
        found.customers += count
        for side, tiers in zip(found.sides, (before, after), strict=True):
            for scheme, tier in tiers:
                _add(side.held.setdefault(scheme, {}), tier, count)
        under_b = dict(after)
        for scheme, old in before:
            new = under_b.get(scheme)
            if new is None:
                continue
            _add(found.flows.setdefault(scheme, {}).setdefault(old, {}), new, count)
            a, b = (ladder.get(scheme, {}).get(tier, -1) for ladder, tier in zip(ladders, (old, new), strict=True))
            path = ("customers", "up" if b > a else "down" if b < a else "stays", f"A {old}", f"B {new}")
            for attribute, value in zip(kept.attributes, values, strict=True):
                _add_all(_of_value(found, attribute, value).setdefault(scheme, {}), path, count)


def _of_value(found: Population, attribute: str, value: str) -> dict[str, dict[str, int]]:
    """Return the counts of customers with a value of an attribute, by scheme. Values beyond many are counted as one."""
    known = found.fair.setdefault(attribute, {})
    return known.setdefault(value if value in known or len(known) < _MAX_VALUES else OTHER, {})


def tiers_of(customer: Customer) -> Tiers:
    """Return where a customer stands."""
    return tuple([(scheme, standing.tier) for scheme, standing in customer.standings.items()])


def note_metrics(side: Side, engine: Engine, customer: Customer, until: int | None) -> None:
    """Note the metrics of a customer that schemes show, as of the end."""
    cursor = customer.cursor
    if cursor is None or not customer.standings:
        return
    at = cursor if until is None else max(until, cursor)
    policy = engine.timeline.at(at)
    facts = facts_of(customer, policy, at)
    for scheme, show in policy.render_scheme_metrics.items():
        metrics = side.metrics.setdefault(scheme, {})
        for name, value in show(facts, at).items():
            if value is not None:
                metrics.setdefault(name, []).append(float(value))


def attributes_of(customer: Customer, attributes: Iterable[str], until: int | None) -> tuple[str, ...]:
    """Return a customer's value of each attribute; the age is that at `until` (ms), in bands."""
    profile = customer.profile
    values = []
    for name in attributes:
        value = UNKNOWN
        if profile is not None:
            value = str(profile.attributes.get(name, UNKNOWN))[:_LONGEST_VALUE]
            if name == AGE and profile.birthday is not None and until is not None:
                value = _age_band(profile.birthday, until)
        values.append(value)
    return tuple(values)


def _age_band(birthday: str, until: int) -> str:
    year, _, rest = birthday.partition("-")
    if not year.isdecimal():
        return UNKNOWN  # without a year, or lunar
    today = to_datetime(until).date()
    age = today.year - int(year) - ((today.month, today.day) < (int(rest[:2]), int(rest[3:])))
    return next((band for limit, band in AGE_BANDS if age < limit), "65 and over")


def _add(counts: dict[K, int], name: K, count: int = 1) -> None:
    counts[name] = counts.get(name, 0) + count


def _add_all(counts: dict[K, int], names: Iterable[K], count: int) -> None:
    for name in names:
        _add(counts, name, count)
