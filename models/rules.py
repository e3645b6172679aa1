"""Rules: comparisons of metrics with thresholds, combined by `all` and `any`, and what explains them.

A rule answers whether it holds, which comparisons decided that, when that can next change by time alone,
and what is missing for it to hold. Parsing a policy's text is `models.policy`'s business.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from operator import eq, ge, gt, le, lt
from typing import Literal, NamedTuple

from models.metrics import Edge, Facts, Metric, Reading

Op = Literal[">=", ">", "<=", "<", "=="]
OPS: tuple[Op, ...] = (">=", ">", "<=", "<", "==")
_TESTS: dict[Op, Callable[[int, int], bool]] = {">=": ge, ">": gt, "<=": le, "<": lt, "==": eq}


class Finding(NamedTuple):
    """A comparison as it stood: the reading, and whether the comparison held."""

    comparison: "Comparison"
    reading: Reading
    met: bool


class Lack(NamedTuple):
    """How far a metric is from a threshold, in native units; None where the metric is undefined."""

    comparison: "Comparison"
    missing: Fraction | None

    @property
    def share(self) -> Fraction:
        """The part of the threshold that is missing, to tell which of several ways is nearest."""
        if self.missing is None:
            return Fraction(10**9)
        return self.missing / (abs(self.comparison.edge.ratio) or 1)


@dataclass(frozen=True, slots=True)
class Comparison:
    """`metric op threshold` over a window (ms). `threshold` is kept in the displayed unit, as it was written."""

    metric: Metric
    op: Op
    threshold: Fraction
    edge: Edge
    window: int

    def read(self, facts: Facts, at: int) -> Reading:
        """Return the metric's reading as of an instant (ms)."""
        return self.metric.value(facts, at, self.window)

    def admits(self, reading: Reading) -> bool:
        """Whether a reading satisfies the comparison. An undefined metric satisfies none."""
        if reading is None:
            return False
        numerator, denominator = reading
        if denominator == 1:
            if self.op == ">=":
                return numerator >= self.edge.ceil
            if self.op == "<=":
                return numerator <= self.edge.floor
        left, right = numerator * self.edge.ratio.denominator, self.edge.ratio.numerator * denominator
        return _TESTS[self.op](left, right)

    def holds(self, facts: Facts, at: int) -> bool:
        """Whether the comparison holds as of an instant (ms)."""
        return self.admits(self.metric.value(facts, at, self.window))

    def next_flip(self, facts: Facts, at: int) -> int | None:
        """Return the next instant (ms) at which the truth may change by time alone, or None."""
        return self.metric.next_flip(facts, at, self.window, self.edge)

    def decisive(self, facts: Facts, at: int) -> list[Finding]:
        """Return the comparison itself as it stands."""
        reading = self.read(facts, at)
        return [Finding(self, reading, self.admits(reading))]

    def lacks(self, facts: Facts, at: int) -> list[Lack]:
        """Return how far the comparison is from holding; nothing where it holds."""
        reading = self.read(facts, at)
        if self.admits(reading):
            return []
        if reading is None:
            missing = self.edge.ratio if self.op in (">=", ">", "==") else None
            return [Lack(self, missing)]
        return [Lack(self, abs(self.edge.ratio - Fraction(*reading)))]


@dataclass(frozen=True, slots=True)
class Junction:
    """Several rules of which all, or any, must hold."""

    every: bool
    parts: tuple["Rule", ...]

    def holds(self, facts: Facts, at: int) -> bool:
        """Whether the rule holds as of an instant (ms)."""
        for part in self.parts:
            if part.holds(facts, at) is not self.every:
                return not self.every
        return self.every

    def next_flip(self, facts: Facts, at: int) -> int | None:
        """Return the next instant (ms) at which some part's truth may change by time alone, or None."""
        flips = [flip for part in self.parts if (flip := part.next_flip(facts, at)) is not None]
        return min(flips) if flips else None

    def decisive(self, facts: Facts, at: int) -> list[Finding]:
        """Return the comparisons that suffice to see why the rule holds, or why it does not."""
        truth = self.holds(facts, at)
        parts = [part for part in self.parts if part.holds(facts, at) is truth]
        return [finding for part in parts for finding in part.decisive(facts, at)]

    def lacks(self, facts: Facts, at: int) -> list[Lack]:
        """Return what is missing: of all parts, or of the nearest one where any part is enough."""
        if self.holds(facts, at):
            return []
        ways = [lacks for part in self.parts if (lacks := part.lacks(facts, at))]
        if self.every:
            return [lack for way in ways for lack in way]
        return min(ways, key=lambda way: max(lack.share for lack in way))


Rule = Comparison | Junction
