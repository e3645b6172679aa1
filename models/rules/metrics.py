"""The metrics that rules compare: exact integers (or ratios of them), and when each next changes by time alone.

A reading is `(numerator, denominator)` in the metric's native unit (ms, minor units, a count, a number), or None if it
is undefined (no order yet, no survey). Definitions: docs/contract.md, "Metrics". Recency, frequency and monetary follow
Hughes, "Strategic Database Marketing" (1994). Pure functions only.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from math import ceil, floor
from operator import sub

import msgspec

from models.customer.interactions import Interactions
from models.customer.ledger import Ledger
from models.instants import DAY_MS
from models.rules.periods import Window, leaves, opens

Reading = tuple[int, int] | None

#: `rhythm_days` is the median of at most this many of the latest gaps between counted orders …
RHYTHM_GAPS = 12
#: … and needs at least this many.
RHYTHM_MIN_GAPS = 2


#: Stands for an unknown rhythm: longer than all instants span.
_NO_RHYTHM = 2**62


class Unit(Enum):
    """The unit of a metric in policies and events."""

    DAYS = "days"
    MONEY = "money"
    COUNT = "count"
    NUMBER = "number"


class Facts(msgspec.Struct, gc=False):
    """What the metrics of one customer are computed from. No entry lies after the instant of the reading."""

    ledger: Ledger
    interactions: Interactions
    since: int  # tenure starts here: registration, else the first event (ms)
    weights: Mapping[str, int]  # thousandths per interaction kind
    double_rhythm: int = -1  # computed on first use; -1: not yet


@dataclass(frozen=True, slots=True)
class Edges:
    """The thresholds that some rules compare a metric with, in its native unit, ready for searching.

    `reached` holds the thresholds of `>=`, `<` and `==`, which change their truth when the metric reaches them.
    `passed` holds those of `>`, `<=` and `==`, which change when the metric passes them. Both are exact, ascending. A
    comparison changes its truth when a falling value falls to one of `levels` or a rising one rises to one of
    `offsets`; both are ascending integers.
    """

    reached: tuple[Fraction, ...]
    passed: tuple[Fraction, ...]
    levels: tuple[int, ...]
    offsets: tuple[int, ...]

    @classmethod
    def of(cls, comparisons: Iterable[tuple[str, Fraction]]) -> "Edges":
        """Return the edges of comparisons, each an operator and a threshold in the native unit."""
        pairs = set(comparisons)
        reached = sorted({ratio for op, ratio in pairs if op in (">=", "<", "==")})
        passed = sorted({ratio for op, ratio in pairs if op in (">", "<=", "==")})
        levels = {ceil(ratio) - 1 for ratio in reached} | {floor(ratio) for ratio in passed}
        offsets = {ceil(ratio) for ratio in reached} | {floor(ratio) + 1 for ratio in passed}
        falling = tuple(level for level in sorted(levels) if level >= 0)
        return cls(tuple(reached), tuple(passed), falling, tuple(sorted(offsets)))

    @property
    def compared(self) -> bool:
        """Whether anything compares the metric."""
        return bool(self.offsets)


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric: `value(facts, at, window)` and `next_change(facts, at, window, edges)`.

    `next_change` returns an instant (ms) after `at`. Before it, no comparison with one of the edges changes its truth
    unless something happens; None means never. The instant may be too early, but never too late.
    """

    name: str
    unit: Unit
    value: Callable[[Facts, int, Window], Reading]
    next_change: Callable[[Facts, int, Window, Edges], int | None]


@dataclass(frozen=True, slots=True)
class Gauge:
    """A metric over a window with the edges that rules compare it with. It is read once for each evaluation."""

    metric: Metric
    window: Window
    edges: Edges

    def read(self, facts: Facts, at: int) -> Reading:
        """Return the reading as of an instant (ms)."""
        return self.metric.value(facts, at, self.window)

    def next_change(self, facts: Facts, at: int) -> int | None:
        """Return the next instant (ms) at which time alone may carry the reading over an edge, or None."""
        return self.metric.next_change(facts, at, self.window, self.edges) if self.edges.compared else None


def _first(facts: Facts, at: int, window: Window) -> int:
    """Return the index of the first counted order in the window."""
    return bisect_right(facts.ledger.times, opens(at, window))


def _total(sums: Sequence[int], first: int) -> int:
    """Return the sum from index `first` on, given prefix sums."""
    return sums[-1] - sums[first] if sums else 0


def _rise(anchor: int, at: int, offsets: Sequence[int]) -> int | None:
    """Return the next instant at which (instant − anchor) reaches one of the ascending offsets; None if never."""
    index = bisect_right(offsets, at - anchor)
    return anchor + offsets[index] if index < len(offsets) else None


def _expiry(times: Sequence[int], at: int, window: Window) -> int | None:
    """Return the instant at which the next entry leaves the window; None if there is none."""
    first = bisect_right(times, opens(at, window))
    return leaves(times[first], window) if first < len(times) else None


def _never(_facts: Facts, _at: int, _window: Window, _edges: Edges) -> None:
    return None


def _order_expiry(facts: Facts, at: int, window: Window, _edges: Edges) -> int | None:
    return _expiry(facts.ledger.times, at, window)


def _contact_expiry(facts: Facts, at: int, window: Window, _edges: Edges) -> int | None:
    return _expiry(facts.interactions.times, at, window)


def _recency(facts: Facts, at: int, _window: Window) -> Reading:
    times = facts.ledger.times
    return (at - times[-1], 1) if times else None


def _recency_change(facts: Facts, at: int, _window: Window, edges: Edges) -> int | None:
    times = facts.ledger.times
    return _rise(times[-1], at, edges.offsets) if times else None


def _tenure(facts: Facts, at: int, _window: Window) -> Reading:
    return max(0, at - facts.since), 1


def _tenure_change(facts: Facts, at: int, _window: Window, edges: Edges) -> int | None:
    return _rise(facts.since, at, edges.offsets)


def _first_order(facts: Facts, at: int, _window: Window) -> Reading:
    times = facts.ledger.times
    return (at - times[0], 1) if times else None


def _first_order_change(facts: Facts, at: int, _window: Window, edges: Edges) -> int | None:
    times = facts.ledger.times
    return _rise(times[0], at, edges.offsets) if times else None


def _frequency(facts: Facts, at: int, window: Window) -> Reading:
    return len(facts.ledger.times) - _first(facts, at, window), 1


def _frequency_change(facts: Facts, at: int, window: Window, edges: Edges) -> int | None:
    times = facts.ledger.times
    below = bisect_left(edges.levels, len(times) - _first(facts, at, window))
    # The count falls to a level when the order before the `level` youngest ones leaves the window.
    return leaves(times[len(times) - 1 - edges.levels[below - 1]], window) if below else None


def _monetary(facts: Facts, at: int, window: Window) -> Reading:
    return _total(facts.ledger.paid, _first(facts, at, window)), 1


def _monetary_change(facts: Facts, at: int, window: Window, edges: Edges) -> int | None:
    times, paid = facts.ledger.times, facts.ledger.paid
    below = bisect_left(edges.levels, _total(paid, _first(facts, at, window)))
    # Prefix sums never fall, so a bisection finds the order whose leaving takes the total to the level.
    return leaves(times[bisect_left(paid, paid[-1] - edges.levels[below - 1]) - 1], window) if below else None


def _margin(facts: Facts, at: int, window: Window) -> Reading:
    return _total(facts.ledger.margins, _first(facts, at, window)), 1


def _average_order_value(facts: Facts, at: int, window: Window) -> Reading:
    first = _first(facts, at, window)
    count = len(facts.ledger.times) - first
    return (_total(facts.ledger.paid, first), count) if count else None


def _repurchase_rate(facts: Facts, at: int, window: Window) -> Reading:
    """Return the share of the counted orders in the window that were not the customer's first."""
    first = _first(facts, at, window)
    count = len(facts.ledger.times) - first
    fresh = 1 if first == 0 and not facts.ledger.folded else 0
    return (count - fresh, count) if count else None


def _half(window: Window) -> int:
    """Return half of a rolling window (ms); policies with `growth` over another are refused."""
    if not isinstance(window, int):
        raise TypeError("growth is defined over rolling windows only")
    return window // 2


def _growth(facts: Facts, at: int, window: Window) -> Reading:
    """Return monetary of (at − window/2, at] divided by that of the half-window before it."""
    half = _half(window)
    middle, first = _first(facts, at, half), _first(facts, at, 2 * half)
    late = _total(facts.ledger.paid, middle)
    early = _total(facts.ledger.paid, first) - late
    return (late, early) if early > 0 else None


def _growth_change(facts: Facts, at: int, window: Window, _edges: Edges) -> int | None:
    half = _half(window)
    moves = [_expiry(facts.ledger.times, at, half), _expiry(facts.ledger.times, at, 2 * half)]
    return min((move for move in moves if move is not None), default=None)


def _engagement(facts: Facts, at: int, window: Window) -> Reading:
    return facts.interactions.weight(opens(at, window), facts.weights), 1000


def _satisfaction(facts: Facts, at: int, window: Window) -> Reading:
    total, count = facts.interactions.scores(opens(at, window))
    return (total, count * 1000) if count else None


def _referrals(facts: Facts, at: int, window: Window) -> Reading:
    return facts.interactions.count(opens(at, window), "referral"), 1


def double_rhythm(facts: Facts) -> int | None:
    """Return twice the median of the latest gaps between counted orders (ms), which is whole; None if unknown."""
    if facts.double_rhythm < 0:
        times = facts.ledger.times[-RHYTHM_GAPS - 1 :]
        gaps = sorted(map(sub, times[1:], times))
        half = len(gaps) // 2
        facts.double_rhythm = gaps[half] + gaps[-half - 1] if len(gaps) >= RHYTHM_MIN_GAPS else _NO_RHYTHM
    return None if facts.double_rhythm == _NO_RHYTHM else facts.double_rhythm


def _rhythm(facts: Facts, _at: int, _window: Window) -> Reading:
    double = double_rhythm(facts)
    return None if double is None else (double, 2)


def _overdue_unit(facts: Facts) -> int | None:
    """Return twice the unit of `overdue` (ms): the rhythm, but at least a day, or orders a minute apart would alarm."""
    double = double_rhythm(facts)
    return None if double is None else max(double, 2 * DAY_MS)


def _overdue(facts: Facts, at: int, _window: Window) -> Reading:
    unit = _overdue_unit(facts)
    return None if unit is None else (2 * (at - facts.ledger.times[-1]), unit)


def _overdue_change(facts: Facts, at: int, _window: Window, edges: Edges) -> int | None:
    unit = _overdue_unit(facts)
    if unit is None:
        return None
    offsets = [-(-ratio.numerator * unit // (2 * ratio.denominator)) for ratio in edges.reached]
    offsets += [ratio.numerator * unit // (2 * ratio.denominator) + 1 for ratio in edges.passed]
    return _rise(facts.ledger.times[-1], at, sorted(offsets))


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("recency_days", Unit.DAYS, _recency, _recency_change),
        Metric("frequency", Unit.COUNT, _frequency, _frequency_change),
        Metric("monetary", Unit.MONEY, _monetary, _monetary_change),
        Metric("margin", Unit.MONEY, _margin, _order_expiry),
        Metric("average_order_value", Unit.MONEY, _average_order_value, _order_expiry),
        Metric("tenure_days", Unit.DAYS, _tenure, _tenure_change),
        Metric("first_order_days", Unit.DAYS, _first_order, _first_order_change),
        Metric("engagement", Unit.NUMBER, _engagement, _contact_expiry),
        Metric("satisfaction", Unit.NUMBER, _satisfaction, _contact_expiry),
        Metric("referrals", Unit.COUNT, _referrals, _contact_expiry),
        Metric("repurchase_rate", Unit.NUMBER, _repurchase_rate, _order_expiry),
        Metric("growth", Unit.NUMBER, _growth, _growth_change),
        Metric("rhythm_days", Unit.DAYS, _rhythm, _never),
        Metric("overdue", Unit.NUMBER, _overdue, _overdue_change),
    )
}
