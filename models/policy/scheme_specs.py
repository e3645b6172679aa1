"""The kinds of schemes as a policy file writes them; `compile_schemes` turns each into tiers with rules.

Tiers are always listed lowest first. The default kind is `thresholds`.
"""

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from models.instants import parse_duration
from models.policy.spec_types import (
    Condition,
    Duration,
    MetricName,
    MetricWindow,
    Name,
    Number,
    Positive,
    Spec,
    parse_comparison,
)
from models.rules.metrics import METRICS
from models.rules.ranking import RISING

Levels = Annotated[str, Field(pattern=r"^[1-9]\d?(-[1-9]\d?)?$", examples=["4-5"])]
Share = Annotated[str, Field(pattern=r"^\d{1,2}(\.\d{1,4})?%$", examples=["5%"])]


class DemotionSpec(Spec):
    """How a customer falls: after being below for `grace`, to the qualified tier or by one step.

    `min_stay` is the shortest stay in a tier. `keep` keeps a tier to the end of the period after the one in which the
    customer last qualified for it: calendar years in the policy's time zone, or years since the registration. All of
    these protect against time. With `clawback`, a refund or cancellation takes a tier at once that it takes the
    conditions of.
    """

    grace: Duration = "0d"
    step: Literal["qualified", "one"] = "qualified"
    min_stay: Duration = "0d"
    keep: Literal["calendar_year", "anniversary"] | None = None
    clawback: bool = False


class SchemeSpec(Spec):
    """The keys of every kind of scheme."""

    window: MetricWindow | None = None
    demotion: DemotionSpec = DemotionSpec()


class ThresholdTierSpec(Spec):
    """A tier and the rule that admits to it. The lowest has none."""

    name: Name
    when: Condition | None = None


class ThresholdsSpec(SchemeSpec):
    """Tiers with a rule each: the qualified tier is the highest whose rule holds."""

    kind: Literal["thresholds"] = "thresholds"
    tiers: Annotated[list[ThresholdTierSpec], Field(min_length=2, max_length=32)]

    @model_validator(mode="after")
    def _tiers_make_sense(self) -> "ThresholdsSpec":
        _check_names([tier.name for tier in self.tiers])
        if self.tiers[0].when is not None:
            raise ValueError("tiers.0.when: the lowest tier has no rule: everybody is at least there")
        for index, tier in enumerate(self.tiers[1:], start=1):
            if tier.when is None:
                raise ValueError(f"tiers.{index}.when: every tier above the lowest has a rule")
            for below in range(1, index):
                _check_reachable(tier.when, self.tiers[below].when or {}, f"tiers.{index}.when", self.tiers[below].name)
        return self


class GradedSpec(Spec):
    """A metric's part in a score: a level for each break that it passes. If the breaks fall, less is better."""

    breaks: Annotated[list[Number], Field(min_length=1, max_length=9)]
    weight: Annotated[Positive, Field(pattern=r"^\d{1,6}(\.\d{1,3})?$")] = "1"

    @model_validator(mode="after")
    def _breaks_go_one_way(self) -> "GradedSpec":
        _check_monotone([Fraction(value) for value in self.breaks], "breaks")
        return self


class ScoreTierSpec(Spec):
    """A tier and the least weighted score that admits to it. The lowest has none."""

    name: Name
    at_least: Number | None = None


class ScoreSpec(SchemeSpec):
    """Metrics graded by breaks, and tiers by the weighted mean of their levels."""

    kind: Literal["score"]
    metrics: Annotated[dict[MetricName, GradedSpec], Field(min_length=1, max_length=len(METRICS))]
    tiers: Annotated[list[ScoreTierSpec], Field(min_length=2, max_length=32)]

    @model_validator(mode="after")
    def _tiers_make_sense(self) -> "ScoreSpec":
        _check_names([tier.name for tier in self.tiers])
        _check_rising("at_least", [tier.at_least for tier in self.tiers])
        weights = {name: Fraction(graded.weight) for name, graded in self.metrics.items()}
        best = sum(weights[name] * (1 + len(graded.breaks)) for name, graded in self.metrics.items())
        top = Fraction(self.tiers[-1].at_least or 0)
        if top > best / sum(weights.values()):
            best_shown = float(best / sum(weights.values()))
            raise ValueError(f"tiers.{len(self.tiers) - 1}.at_least: unreachable, the best score is {best_shown:g}")
        return self


class PercentileTierSpec(Spec):
    """A tier, the share of customers that it and higher tiers take, and the cut until one is computed."""

    name: Name
    top: Share | None = None
    cut: Number | None = None


class PercentileSpec(SchemeSpec):
    """Tiers by rank among all customers: the top shares by a metric. Shares are of customers, not of revenue.

    `cutoffs` are computed at the end of each business day (`cut` holds until the first), or fixed by `cut`.
    """

    kind: Literal["percentile"]
    metric: MetricName = "monetary"
    cutoffs: Literal["daily", "fixed"] = "daily"
    tiers: Annotated[list[PercentileTierSpec], Field(min_length=2, max_length=32)]

    @model_validator(mode="after")
    def _tiers_make_sense(self) -> "PercentileSpec":
        _check_names([tier.name for tier in self.tiers])
        _check_rising("cut", [tier.cut for tier in self.tiers])
        shares = [tier.top for tier in self.tiers]
        if shares[0] is not None:
            raise ValueError("tiers.0.top: the lowest tier has no share: it takes the rest")
        for index, (wider, narrower) in enumerate(pairwise(shares[1:]), start=2):
            if wider and narrower and Fraction(narrower[:-1]) >= Fraction(wider[:-1]):
                raise ValueError(f"tiers.{index}.top: found {narrower}, allowed is less than {wider} of the tier below")
        if None in shares[1:]:
            raise ValueError(f"tiers.{shares.index(None, 1)}.top: every tier above the lowest has a share, as in 5%")
        return self

    @model_validator(mode="after")
    def _cutoffs_can_be_had(self) -> "PercentileSpec":
        if self.cutoffs == "fixed" and self.tiers[-1].cut is None:
            raise ValueError("tiers.1.cut: every tier above the lowest has one if cutoffs are fixed")
        if self.cutoffs == "daily" and self.metric in RISING:
            allowed = ", ".join(sorted(METRICS.keys() - RISING))
            raise ValueError(f"metric: found {self.metric}, allowed are {allowed}; or any with cutoffs: fixed")
        return self


class AxisSpec(Spec):
    """An axis of a matrix: a metric divided into bands, one more than cuts. If the cuts fall, less is better."""

    metric: MetricName
    cuts: Annotated[list[Number], Field(min_length=1, max_length=9)]

    @model_validator(mode="after")
    def _cuts_go_one_way(self) -> "AxisSpec":
        _check_monotone([Fraction(value) for value in self.cuts], "cuts")
        return self


class MatrixSpec(SchemeSpec):
    """Two metrics divided into bands and a named tier for each cell. `cells` has a list for each band of `rows`."""

    kind: Literal["matrix"]
    rows: AxisSpec
    columns: AxisSpec
    cells: list[list[Name]]
    tiers: Annotated[list[Name], Field(min_length=2, max_length=32)]

    @model_validator(mode="after")
    def _cells_fit(self) -> "MatrixSpec":
        _check_names(self.tiers)
        height, width = len(self.rows.cuts) + 1, len(self.columns.cuts) + 1
        if len(self.cells) != height or any(len(row) != width for row in self.cells):
            found = f"{len(self.cells)} lists of {sorted({len(row) for row in self.cells})}"
            raise ValueError(f"cells: found {found}, allowed are {height} lists of {width}")
        named = {name for row in self.cells for name in row}
        if named != set(self.tiers):
            wrong = sorted(named ^ set(self.tiers))
            raise ValueError(f"tiers: {', '.join(wrong)} stands in only one of tiers and cells")
        if self.cells[0][0] != self.tiers[0]:
            raise ValueError(f"cells.0.0: found {self.cells[0][0]!r}, allowed is the lowest tier, {self.tiers[0]!r}")
        return self


class LifecycleSpec(SchemeSpec):
    """Stages by the first order and the silence since the last: prospect (no order), new, active, dormant, churned."""

    kind: Literal["lifecycle"]
    new_for: Duration = "30d"
    active_for: Duration = "90d"
    dormant_for: Duration = "180d"

    @model_validator(mode="after")
    def _stages_follow(self) -> "LifecycleSpec":
        if not parse_duration(self.active_for) < parse_duration(self.dormant_for):
            raise ValueError(f"dormant_for: found {self.dormant_for}, allowed is more than active_for")
        return self


class SegmentSpec(Spec):
    """A named segment: levels of recency, frequency and monetary. The lowest has none and takes the rest."""

    name: Name
    r: Levels | None = None
    f: Levels | None = None
    m: Levels | None = None


class SegmentsSpec(SchemeSpec):
    """Levels of recency, frequency and monetary by breaks, and named segments. The highest that fits counts."""

    kind: Literal["segments"]
    recency: Annotated[list[Number], Field(min_length=1, max_length=9)]
    frequency: Annotated[list[Number], Field(min_length=1, max_length=9)]
    monetary: Annotated[list[Number], Field(min_length=1, max_length=9)]
    segments: Annotated[list[SegmentSpec], Field(min_length=2, max_length=32)]

    @model_validator(mode="after")
    def _segments_make_sense(self) -> "SegmentsSpec":
        _check_names([segment.name for segment in self.segments], "segments")
        for axis, falling in (("recency", True), ("frequency", False), ("monetary", False)):
            values = [Fraction(value) for value in getattr(self, axis)]
            _check_monotone(values, axis)
            if len(values) > 1 and (values[0] > values[1]) is not falling:
                raise ValueError(f"{axis}: allowed are {'falling' if falling else 'rising'} breaks, worst first")
        for index, segment in enumerate(self.segments):
            if (segment.r or segment.f or segment.m) is None and index:
                raise ValueError(f"segments.{index}: above the lowest, a segment has levels of r, f or m")
            for letter, axis in (("r", "recency"), ("f", "frequency"), ("m", "monetary")):
                _check_levels(getattr(segment, letter), len(getattr(self, axis)) + 1, f"segments.{index}.{letter}")
        return self


def _kind(value: Any) -> str:
    return str(value.get("kind", "thresholds")) if isinstance(value, dict) else getattr(value, "kind", "thresholds")


AnyScheme = Annotated[
    Annotated[ThresholdsSpec, Tag("thresholds")]
    | Annotated[ScoreSpec, Tag("score")]
    | Annotated[PercentileSpec, Tag("percentile")]
    | Annotated[MatrixSpec, Tag("matrix")]
    | Annotated[LifecycleSpec, Tag("lifecycle")]
    | Annotated[SegmentsSpec, Tag("segments")],
    Discriminator(_kind),
]


#: The stages of a lifecycle, lowest first.
STAGES = ("churned", "dormant", "prospect", "new", "active")


def tier_names(scheme: AnyScheme) -> list[str]:
    """Return the names of a scheme's tiers, lowest first."""
    match scheme:
        case LifecycleSpec():
            return list(STAGES)
        case MatrixSpec():
            return list(scheme.tiers)
        case SegmentsSpec():
            return [segment.name for segment in scheme.segments]
        case _:
            return [tier.name for tier in scheme.tiers]


def is_ladder(scheme: AnyScheme) -> bool:
    """Whether customers climb from tier to tier."""
    return not isinstance(scheme, LifecycleSpec | SegmentsSpec)


def levels_of(written: str) -> tuple[int, int]:
    """Return (lowest, highest) of levels such as `4-5` or `3`."""
    low, _, high = written.partition("-")
    return int(low), int(high or low)


def _check_names(names: list[str], path: str = "tiers") -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{path}: the name {name!r} occurs twice")


def _check_monotone(values: Sequence[Fraction], path: str) -> None:
    steps = [right - left for left, right in pairwise(values)]
    if not (all(step > 0 for step in steps) or all(step < 0 for step in steps)):
        raise ValueError(
            f"{path}: found {[float(value) for value in values]}, allowed are values that only rise or only fall"
        )


def _check_rising(key: str, values: Sequence[str | None]) -> None:
    if values[0] is not None:
        raise ValueError(f"tiers.0.{key}: the lowest tier has none: everybody is at least there")
    if key == "cut" and all(value is None for value in values):
        return
    for index, value in enumerate(values[1:], start=1):
        if value is None:
            raise ValueError(f"tiers.{index}.{key}: every tier above the lowest has one")
        below = values[index - 1]
        if below is not None and Fraction(value) <= Fraction(below):
            raise ValueError(f"tiers.{index}.{key}: found {value}, allowed is more than the {below} of the tier below")


def _check_levels(written: str | None, highest: int, path: str) -> None:
    if written is not None:
        low, high = levels_of(written)
        if low > high or high > highest:
            raise ValueError(f"{path}: found {written}, allowed are levels from 1 to {highest}, as in 2-{highest}")


def _check_reachable(when: dict[str, Any], below: dict[str, Any], path: str, name: str) -> None:
    """Raise ValueError if a tier requires no more of one metric than a lower tier: the lower could never be reached."""
    if len(when) == 1 and when.keys() == below.keys() and not {"all", "any"} & when.keys():
        metric = next(iter(when))
        (op, own), (other_op, other) = parse_comparison(str(when[metric])), parse_comparison(str(below[metric]))
        falls = own <= other if op in (">=", ">") else own >= other
        if op == other_op and op != "==" and falls:
            raise ValueError(
                f"{path}.{metric}: found {when[metric]}, allowed is more than tier {name!r} below asks for "
                f"({below[metric]}), or that tier can never be reached"
            )
