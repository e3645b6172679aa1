"""Rules over readings: comparisons, combined by `all` and `any`, and weighted scores, with their explanation.

A rule takes the readings of one instant, which are computed once for all rules. It returns whether it holds, which
comparisons decided that, and what is missing for it to hold. `models.policy.compile_schemes` builds rules from files.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil, floor
from operator import eq, ge, gt, le, lt
from typing import Literal, NamedTuple

from models.rules.metrics import Metric, Reading, Unit

Op = Literal[">=", ">", "<=", "<", "=="]
OPS: tuple[Op, ...] = (">=", ">", "<=", "<", "==")
_TESTS: dict[Op, Callable[[int, int], bool]] = {">=": ge, ">": gt, "<=": le, "<": lt, "==": eq}
#: The operator that holds exactly when another does not.
INVERSE: dict[Op, Op] = {">=": "<", ">": "<=", "<=": ">", "<": ">="}

Readings = Sequence[Reading]


class Finding(NamedTuple):
    """A comparison with its reading, and whether it held."""

    comparison: "Comparison"
    reading: Reading
    met: bool


class Lack(NamedTuple):
    """How far a metric is from a threshold, in native units; None if the metric is undefined."""

    comparison: "Comparison"
    missing: Fraction | int | None

    @property
    def share(self) -> Fraction:
        """The part of the threshold that is missing; it shows which of several alternatives is nearest."""
        if self.missing is None:
            return Fraction(10**9)
        edge = self.comparison.edge
        return Fraction(self.missing.numerator * edge.denominator, self.missing.denominator * abs(edge.numerator or 1))


@dataclass(frozen=True, slots=True)
class Comparison:
    """`metric op threshold`: the reading at index `gauge` against `edge`, the threshold in the native unit.

    `undefined` is its truth if the metric has no reading. `threshold` is kept in displayed units, as written.
    """

    gauge: int
    metric: Metric
    op: Op
    threshold: Fraction
    edge: Fraction
    undefined: bool = False
    _test: Callable[[int, int], bool] = field(init=False, repr=False, compare=False)
    _top: int = field(init=False, repr=False, compare=False)
    _bottom: int = field(init=False, repr=False, compare=False)
    #: The comparison as written; it identifies the comparison among those of a rule.
    label: str = field(init=False, repr=False, compare=False)
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Prepared once: a comparison runs several times an event.
        object.__setattr__(self, "_test", _TESTS[self.op])
        object.__setattr__(self, "_top", self.edge.numerator)
        object.__setattr__(self, "_bottom", self.edge.denominator)
        object.__setattr__(self, "label", f"{self.metric.name} {self.op} {self.threshold}")
        object.__setattr__(self, "_hash", hash((self.gauge, self.label, self.undefined)))

    def __hash__(self) -> int:
        return self._hash

    def admits(self, reading: Reading) -> bool:
        """Whether a reading satisfies the comparison."""
        if reading is None:
            return self.undefined
        numerator, denominator = reading
        return self._test(numerator * self._bottom, self._top * denominator)

    def holds(self, readings: Readings) -> bool:
        """Whether the comparison holds."""
        reading = readings[self.gauge]
        if reading is None:
            return self.undefined
        return self._test(reading[0] * self._bottom, self._top * reading[1])

    def leaves(self) -> Iterator["Comparison"]:
        """Yield the comparison itself."""
        yield self

    def decisive(self, readings: Readings, truth: bool | None = None) -> list[Finding]:
        """Return the comparison with its reading. `truth` is whether it holds, if that is known already."""
        reading = readings[self.gauge]
        return [Finding(self, reading, self.admits(reading) if truth is None else truth)]

    def lacks(self, readings: Readings) -> list[Lack]:
        """Return how far the comparison is from holding; an empty list if it holds."""
        reading = readings[self.gauge]
        if self.admits(reading):
            return []
        if reading is None:
            return [Lack(self, self.edge if self.op in (">=", ">", "==") else None)]
        if self._bottom == reading[1] == 1:
            return [Lack(self, abs(self._top - reading[0]))]
        return [Lack(self, abs(self.edge - Fraction(*reading)))]


@dataclass(frozen=True, slots=True)
class Junction:
    """Several rules, of which all must hold (`every`), or any one."""

    every: bool
    parts: tuple["Rule", ...]

    def holds(self, readings: Readings) -> bool:
        """Whether the rule holds."""
        for part in self.parts:
            if part.holds(readings) is not self.every:
                return not self.every
        return self.every

    def leaves(self) -> Iterator[Comparison]:
        """Yield every comparison of the parts."""
        for part in self.parts:
            yield from part.leaves()

    def decisive(self, readings: Readings, truth: bool | None = None) -> list[Finding]:
        """Return the comparisons that show why the rule holds or not. `truth` is whether it holds, if known already."""
        truths = [part.holds(readings) for part in self.parts]
        if truth is None:
            truth = all(truths) if self.every else any(truths)
        parts = [part for part, holds in zip(self.parts, truths, strict=True) if holds is truth]
        return [finding for part in parts for finding in part.decisive(readings, truth)]

    def lacks(self, readings: Readings) -> list[Lack]:
        """Return what is missing: in all parts, or in the nearest part if any one is enough."""
        ways = [part.lacks(readings) for part in self.parts]
        if self.every:
            return [lack for way in ways for lack in way]
        if not all(ways):
            return []
        return min(ways, key=_farthest, default=[])


def _farthest(way: list[Lack]) -> Fraction:
    return max(lack.share for lack in way)


def _no_value(*_: object) -> None:
    return None


#: The metric name of a weighted score. It is computed from levels, not from the ledger.
SCORE = Metric("score", Unit.NUMBER, _no_value, _no_value)


class Graded(NamedTuple):
    """A metric's part in a score: level 1 plus one for each of `breaks` that holds. The weight is in thousandths."""

    weight: int
    breaks: tuple[Comparison, ...]

    def level(self, readings: Readings) -> int:
        """Return the level, from 1 to the number of breaks plus one."""
        return 1 + sum(brk.holds(readings) for brk in self.breaks)

    def nearest(self, readings: Readings) -> Comparison:
        """Return the comparison that decides the level: the hardest that holds, else the easiest."""
        return self.breaks[max(0, self.level(readings) - 2)]


@dataclass(frozen=True, slots=True)
class Score:
    """A weighted mean of levels that must reach a threshold."""

    parts: tuple[Graded, ...]
    threshold: Fraction

    def score(self, readings: Readings) -> Fraction:
        """Return the weighted mean of the levels."""
        return Fraction(
            sum(part.weight * part.level(readings) for part in self.parts), sum(part.weight for part in self.parts)
        )

    def holds(self, readings: Readings) -> bool:
        """Whether the score reaches the threshold."""
        return self.score(readings) >= self.threshold

    def leaves(self) -> Iterator[Comparison]:
        """Yield every break of every graded metric."""
        for part in self.parts:
            yield from part.breaks

    def decisive(self, readings: Readings, truth: bool | None = None) -> list[Finding]:  # noqa: ARG002  # as other rules
        """Return the score against its threshold, then the comparison that decides each level."""
        score = self.score(readings)
        own = Finding(self._comparison(), (score.numerator, score.denominator), score >= self.threshold)
        return [own, *(finding for part in self.parts for finding in part.nearest(readings).decisive(readings))]

    def lacks(self, readings: Readings) -> list[Lack]:
        """Return how much score is missing; an empty list if it suffices."""
        missing = self.threshold - self.score(readings)
        return [Lack(self._comparison(), missing)] if missing > 0 else []

    def _comparison(self) -> Comparison:
        return Comparison(-1, SCORE, ">=", self.threshold, self.threshold)


Rule = Comparison | Junction | Score


def least_missing(lack: Lack) -> Fraction | int | None:
    """Return what is missing, in whole units for counts and money; a strict comparison needs one more."""
    if lack.missing is None or lack.comparison.metric.unit not in (Unit.COUNT, Unit.MONEY):
        return lack.missing
    if lack.comparison.metric.name == "average_order_value":
        return lack.missing
    strict = lack.comparison.op in (">", "<") and floor(lack.missing) == lack.missing
    return ceil(lack.missing) + strict


def easier(rule: Rule, share: Fraction) -> Rule:
    """Return a rule with thresholds eased by a share: at 10 %, `>= 100` becomes `>= 90`, `<= 30` becomes `<= 33`."""
    if isinstance(rule, Junction):
        return Junction(rule.every, tuple(easier(part, share) for part in rule.parts))
    if isinstance(rule, Score):
        return Score(rule.parts, rule.threshold - abs(rule.threshold) * share)
    if rule.op == "==":
        return rule
    eased = -share if rule.op in (">=", ">") else share
    threshold, edge = (value + abs(value) * eased for value in (rule.threshold, rule.edge))
    return Comparison(rule.gauge, rule.metric, rule.op, threshold, edge, rule.undefined)
