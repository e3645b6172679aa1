"""The metrics that rules compare: exact integers (or ratios of them), and when each next changes by time alone.

A reading is `(numerator, denominator)` in the metric's native unit (ms, minor units, a count, a number), or
None where it is undefined (no order yet, no survey). Definitions: docs/contract.md, "Metrics". Recency,
frequency, monetary after Hughes, "Strategic Database Marketing" (1994). Pure functions only.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from math import ceil, floor

from models.contacts import Contacts
from models.instants import DAY_MS
from models.ledger import Ledger

Reading = tuple[int, int] | None

#: `rhythm_days` is the median of at most this many of the latest gaps between counted orders …
RHYTHM_GAPS = 12
#: … and needs at least this many.
RHYTHM_MIN_GAPS = 2


class Unit(Enum):
    """How a metric is written in policies and events."""

    DAYS = "days"
    MONEY = "money"
    COUNT = "count"
    NUMBER = "number"


@dataclass(slots=True)
class Facts:
    """What the metrics of one customer are computed from. Every entry lies at or before the instant asked for."""

    ledger: Ledger
    contacts: Contacts
    since: int  # tenure starts here: registration, else the first event (ms)
    weights: Mapping[str, int]  # thousandths per interaction kind


@dataclass(frozen=True, slots=True)
class Edge:
    """A threshold in a metric's native unit: the exact ratio, and the integers around it."""

    ratio: Fraction
    ceil: int
    floor: int

    @classmethod
    def of(cls, threshold: Fraction, scale: int) -> "Edge":
        """Return the edge of a threshold written in the displayed unit, `scale` native units each."""
        ratio = threshold * scale
        return cls(ratio, ceil(ratio), floor(ratio))


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric: `value(facts, at, window)` and `next_flip(facts, at, window, edge)`.

    `next_flip` returns an instant (ms) after `at` up to which no comparison of the metric with the edge
    changes its truth if nothing happens; None: never. It may come early, never late.
    """

    name: str
    unit: Unit
    value: Callable[[Facts, int, int], Reading]
    next_flip: Callable[[Facts, int, int, Edge], int | None]


def _first(facts: Facts, at: int, window: int) -> int:
    """Index of the first counted order in the window (at − window, at]."""
    return bisect_right(facts.ledger.times, at - window)


def _total(sums: Sequence[int], first: int) -> int:
    """Sum of what prefix sums hold from index `first` on."""
    if first >= len(sums):
        return 0
    return sums[-1] - (sums[first - 1] if first else 0)


def _after(at: int, *instants: int) -> int | None:
    """The first of ascending instants that lies after `at`."""
    return next((instant for instant in instants if instant > at), None)


def _expiry(times: Sequence[int], at: int, window: int) -> int | None:
    """When the next entry leaves the window."""
    first = bisect_right(times, at - window)
    return times[first] + window if first < len(times) else None


def _never(_facts: Facts, _at: int, _window: int, _edge: Edge) -> None:
    return None


def _order_expiry(facts: Facts, at: int, window: int, _edge: Edge) -> int | None:
    return _expiry(facts.ledger.times, at, window)


def _contact_expiry(facts: Facts, at: int, window: int, _edge: Edge) -> int | None:
    return _expiry(facts.contacts.times, at, window)


def _recency(facts: Facts, at: int, _window: int) -> Reading:
    times = facts.ledger.times
    return (at - times[-1], 1) if times else None


def _recency_flip(facts: Facts, at: int, _window: int, edge: Edge) -> int | None:
    times = facts.ledger.times
    return _after(at, times[-1] + edge.ceil, times[-1] + edge.floor + 1) if times else None


def _tenure(facts: Facts, at: int, _window: int) -> Reading:
    return max(0, at - facts.since), 1


def _tenure_flip(facts: Facts, at: int, _window: int, edge: Edge) -> int | None:
    return _after(at, facts.since + edge.ceil, facts.since + edge.floor + 1)


def _frequency(facts: Facts, at: int, window: int) -> Reading:
    return len(facts.ledger.times) - _first(facts, at, window), 1


def _frequency_flip(facts: Facts, at: int, window: int, edge: Edge) -> int | None:
    times = facts.ledger.times
    for left in (edge.floor, edge.ceil - 1):  # the count falls to `left` as the one before the youngest `left` leaves
        index = len(times) - 1 - left
        if 0 <= index < len(times) and times[index] + window > at:
            return times[index] + window
    return None


def _monetary(facts: Facts, at: int, window: int) -> Reading:
    return _total(facts.ledger.paid, _first(facts, at, window)), 1


def _monetary_flip(facts: Facts, at: int, window: int, edge: Edge) -> int | None:
    times, paid = facts.ledger.times, facts.ledger.paid
    for left in (edge.floor, edge.ceil - 1):  # what is paid never falls, so the prefix sums can be searched
        index = bisect_left(paid, paid[-1] - left) if paid else 0
        if index < len(times) and times[index] + window > at:
            return times[index] + window
    return None


def _margin(facts: Facts, at: int, window: int) -> Reading:
    return _total(facts.ledger.margins, _first(facts, at, window)), 1


def _average_order_value(facts: Facts, at: int, window: int) -> Reading:
    first = _first(facts, at, window)
    count = len(facts.ledger.times) - first
    return (_total(facts.ledger.paid, first), count) if count else None


def _repurchase_rate(facts: Facts, at: int, window: int) -> Reading:
    """Share of the window's counted orders that were not the customer's first."""
    first = _first(facts, at, window)
    count = len(facts.ledger.times) - first
    fresh = 1 if first == 0 and not facts.ledger.folded else 0
    return (count - fresh, count) if count else None


def _growth(facts: Facts, at: int, window: int) -> Reading:
    """Monetary of (at − window/2, at] over that of the half-window before it."""
    half = window // 2
    middle, first = _first(facts, at, half), _first(facts, at, 2 * half)
    late = _total(facts.ledger.paid, middle)
    early = _total(facts.ledger.paid, first) - late
    return (late, early) if early > 0 else None


def _growth_flip(facts: Facts, at: int, window: int, _edge: Edge) -> int | None:
    half = window // 2
    moves = [_expiry(facts.ledger.times, at, half), _expiry(facts.ledger.times, at, 2 * half)]
    return min((move for move in moves if move is not None), default=None)


def _engagement(facts: Facts, at: int, window: int) -> Reading:
    return facts.contacts.weight(at - window, facts.weights), 1000


def _satisfaction(facts: Facts, at: int, window: int) -> Reading:
    total, count = facts.contacts.scores(at - window)
    return (total, count * 1000) if count else None


def _referrals(facts: Facts, at: int, window: int) -> Reading:
    return facts.contacts.count(at - window, "referral"), 1


def _double_rhythm(facts: Facts) -> int | None:
    """Twice the median of the latest gaps between counted orders (ms): twice, so that it is whole."""
    times = facts.ledger.times[-RHYTHM_GAPS - 1 :]
    gaps = sorted(map(int.__sub__, times[1:], times))
    if len(gaps) < RHYTHM_MIN_GAPS:
        return None
    half = len(gaps) // 2
    return gaps[half] + gaps[-half - 1]


def _rhythm(facts: Facts, _at: int, _window: int) -> Reading:
    double = _double_rhythm(facts)
    return None if double is None else (double, 2)


def _overdue_unit(facts: Facts) -> int | None:
    """Twice the rhythm that `overdue` is counted in: one day at least, or two orders a minute apart would alarm."""
    double = _double_rhythm(facts)
    return None if double is None else max(double, 2 * DAY_MS)


def _overdue(facts: Facts, at: int, _window: int) -> Reading:
    unit = _overdue_unit(facts)
    return None if unit is None else (2 * (at - facts.ledger.times[-1]), unit)


def _overdue_flip(facts: Facts, at: int, _window: int, edge: Edge) -> int | None:
    unit = _overdue_unit(facts)
    if unit is None:
        return None
    last, silence = facts.ledger.times[-1], edge.ratio * unit / 2
    return _after(at, last + ceil(silence), last + floor(silence) + 1)


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("recency_days", Unit.DAYS, _recency, _recency_flip),
        Metric("frequency", Unit.COUNT, _frequency, _frequency_flip),
        Metric("monetary", Unit.MONEY, _monetary, _monetary_flip),
        Metric("margin", Unit.MONEY, _margin, _order_expiry),
        Metric("average_order_value", Unit.MONEY, _average_order_value, _order_expiry),
        Metric("tenure_days", Unit.DAYS, _tenure, _tenure_flip),
        Metric("engagement", Unit.NUMBER, _engagement, _contact_expiry),
        Metric("satisfaction", Unit.NUMBER, _satisfaction, _contact_expiry),
        Metric("referrals", Unit.COUNT, _referrals, _contact_expiry),
        Metric("repurchase_rate", Unit.NUMBER, _repurchase_rate, _order_expiry),
        Metric("growth", Unit.NUMBER, _growth, _growth_flip),
        Metric("rhythm_days", Unit.DAYS, _rhythm, _never),
        Metric("overdue", Unit.NUMBER, _overdue, _overdue_flip),
    )
}
