"""One small compiler for each kind of scheme. Nothing is evaluated here.

Every kind compiles to the same form: tiers, lowest first, each above the lowest with a rule over gauges. Hysteresis,
explanation and care therefore need not know the kinds.
"""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, cast
from zoneinfo import ZoneInfo

from models.instants import DAY_MS, parse_duration
from models.policy import scheme_specs as specs
from models.policy.spec_types import parse_comparison
from models.rules.comparisons import INVERSE, Comparison, Graded, Junction, Op, Rule, Score
from models.rules.metrics import METRICS, Edges, Gauge, Unit
from models.rules.periods import Window, parse_window
from models.rules.ranking import Measure, Ranking
from models.rules.scheme import NEVER_HOLDS, Demotion, Scheme, Tier

#: Shown in every tier change and in `customer-tiers`, even if no rule reads them.
BASE_METRICS = ("recency_days", "frequency", "monetary")

#: Comparisons that time alone can only make fail: window counts fall, silences and ages grow.
_SINKING: dict[str, tuple[Op, ...]] = {
    **dict.fromkeys(("frequency", "monetary", "referrals"), (">=", ">")),
    **dict.fromkeys(("recency_days", "tenure_days", "first_order_days", "overdue"), ("<=", "<")),
}


class GaugeBook:
    """Collects the gauges that the rules of a policy read, so that each is read once for each evaluation.

    `money_scale` is the number of minor units in one unit of the policy's currency.
    """

    def __init__(self, money_scale: int) -> None:
        self._scale = money_scale
        self._indexes: dict[tuple[str, Window], int] = {}
        self._edges: list[set[tuple[str, Fraction]]] = []

    def index(self, metric: str, window: Window) -> int:
        """Return the index of a gauge. An unknown gauge is added."""
        index = self._indexes.setdefault((metric, window), len(self._edges))
        if index == len(self._edges):
            self._edges.append(set())
        return index

    def compare(
        self, metric: str, op: Op, threshold: Fraction, window: Window, *, undefined: bool = False
    ) -> Comparison:
        """Return a comparison of a metric with a threshold in displayed units, and note its edge."""
        edge = threshold * self._native(METRICS[metric].unit)
        index = self.index(metric, window)
        self._edges[index].add((op, edge))
        return Comparison(index, METRICS[metric], op, threshold, edge, undefined)

    def note(self, comparison: Comparison) -> None:
        """Note the edge of a comparison with a gauge that is in the book."""
        self._edges[comparison.gauge].add((comparison.op, comparison.edge))

    def gauges(self) -> tuple[Gauge, ...]:
        """Return the gauges with all edges noted so far, in the order of their indexes."""
        pairs = zip(self._indexes, self._edges, strict=True)
        return tuple(Gauge(METRICS[metric], window, Edges.of(edges)) for (metric, window), edges in pairs)

    def _native(self, unit: Unit) -> int:
        return {Unit.DAYS: DAY_MS, Unit.MONEY: self._scale}.get(unit, 1)


def compile_scheme(name: str, spec: specs.SchemeSpec, policy_window: Window, book: GaugeBook, zone: ZoneInfo) -> Scheme:
    """Return the scheme that a checked specification describes. Its gauges are added to the book.

    `zone` is the policy's: its calendar cuts the counting periods.
    """
    window = policy_window if spec.window is None else parse_window(spec.window, zone)
    match spec:
        case specs.ThresholdsSpec():
            tiers = _thresholds(spec, window, book)
        case specs.ScoreSpec():
            tiers = _score(spec, window, book)
        case specs.PercentileSpec():
            tiers = _percentile(spec, window, book)
        case specs.MatrixSpec():
            tiers = _matrix(spec, window, book)
        case specs.LifecycleSpec():
            tiers = _lifecycle(spec, window, book)
        case specs.SegmentsSpec():
            tiers = _segments(spec, window, book)
        case _:
            raise TypeError(f"no compiler for {type(spec).__name__}")
    ranking = _ranking(spec, window) if isinstance(spec, specs.PercentileSpec) else None
    leaves = [leaf for tier in tiers if tier.rule is not None for leaf in tier.rule.leaves()]
    pairs = {(leaf.metric.name, leaf.op) for leaf in leaves}
    read = dict.fromkeys(leaf.gauge for leaf in leaves)
    if ranking is not None:  # its rules are added when cut-offs are known
        pairs.add((ranking.measure.metric.name, ">="))
        read[book.index(ranking.measure.metric.name, window)] = None
    base = [book.index(metric, window) for metric in BASE_METRICS]
    shown = tuple(dict.fromkeys([*base, *read]))
    demotion = Demotion(
        parse_duration(spec.demotion.grace),
        spec.demotion.step,
        parse_duration(spec.demotion.min_stay),
        spec.demotion.keep,
        spec.demotion.clawback,
    )
    ranks = {tier.name: rank for rank, tier in enumerate(tiers)}
    ladder = specs.is_ladder(spec)
    sinking = all(op in _SINKING.get(metric, ()) for metric, op in pairs)
    return Scheme(name, tiers, demotion, tuple(read), shown, ranks, ladder, sinking, ranking)


def compile_condition(when: Mapping[str, Any], window: Window, book: GaugeBook) -> Rule:
    """Return the rule of a written condition: a mapping of comparisons, with lists under `all` and `any`."""
    parts: list[Rule] = []
    for key, value in when.items():
        if key in ("all", "any"):
            nested = tuple(compile_condition(part, window, book) for part in value)
            parts.append(_join(key == "all", nested))
        else:
            op, threshold = parse_comparison(str(value))
            parts.append(book.compare(key, cast("Op", op), threshold, window))
    return _join(True, tuple(parts))


def _join(every: bool, parts: tuple[Rule, ...]) -> Rule:
    return parts[0] if len(parts) == 1 else Junction(every, parts)


def _thresholds(spec: specs.ThresholdsSpec, window: Window, book: GaugeBook) -> tuple[Tier, ...]:
    return tuple(
        Tier(tier.name, None if tier.when is None else compile_condition(tier.when, window, book))
        for tier in spec.tiers
    )


def _breaks(metric: str, values: list[str], window: Window, book: GaugeBook) -> tuple[Comparison, ...]:
    """Return the comparisons of a metric with its breaks, easiest first: `>=` if they rise, `<=` if they fall."""
    numbers = [Fraction(value) for value in values]
    falling = len(numbers) > 1 and numbers[0] > numbers[1]
    if len(numbers) == 1:
        falling = metric in ("recency_days", "overdue")
    return tuple(book.compare(metric, "<=" if falling else ">=", number, window) for number in numbers)


def _score(spec: specs.ScoreSpec, window: Window, book: GaugeBook) -> tuple[Tier, ...]:
    parts = tuple(
        Graded(round(Fraction(graded.weight) * 1000), _breaks(metric, graded.breaks, window, book))
        for metric, graded in spec.metrics.items()
    )
    return tuple(
        Tier(tier.name, None if tier.at_least is None else Score(parts, Fraction(tier.at_least))) for tier in spec.tiers
    )


def _percentile(spec: specs.PercentileSpec, window: Window, book: GaugeBook) -> tuple[Tier, ...]:
    book.index(spec.metric, window)
    tiers = [Tier(spec.tiers[0].name, None)]
    for tier in spec.tiers[1:]:
        known = tier.cut is not None
        rule = book.compare(spec.metric, ">=", Fraction(tier.cut or 0), window) if known else NEVER_HOLDS
        tiers.append(Tier(tier.name, rule))
    return tuple(tiers)


def _ranking(spec: specs.PercentileSpec, window: Window) -> Ranking | None:
    if spec.cutoffs == "fixed" or not isinstance(window, int):  # with a counting period a specification is refused
        return None
    shares = tuple(Fraction((tier.top or "")[:-1]) / 100 for tier in spec.tiers[1:])
    return Ranking(Measure(METRICS[spec.metric], window), shares)


def _band(breaks: tuple[Comparison, ...], low: int, high: int) -> list[Rule]:
    """Return rules that together hold exactly for levels low to high. The lowest level is 1; no rule if all levels."""
    rules: list[Rule] = []
    if low > 1:
        rules.append(breaks[low - 2])
    if high <= len(breaks):
        bound = breaks[high - 1]
        rules.append(Comparison(bound.gauge, bound.metric, INVERSE[bound.op], bound.threshold, bound.edge, True))
    return rules


def _matrix(spec: specs.MatrixSpec, window: Window, book: GaugeBook) -> tuple[Tier, ...]:
    rows = _breaks(spec.rows.metric, spec.rows.cuts, window, book)
    columns = _breaks(spec.columns.metric, spec.columns.cuts, window, book)
    cells: dict[str, list[Rule]] = {}
    for row, names in enumerate(spec.cells, start=1):
        for column, name in enumerate(names, start=1):
            cell = (*_band(rows, row, row), *_band(columns, column, column))
            cells.setdefault(name, []).append(_join(True, cell))
    return tuple(
        Tier(name, None if rank == 0 else _join(False, tuple(cells[name]))) for rank, name in enumerate(spec.tiers)
    )


def _lifecycle(spec: specs.LifecycleSpec, window: Window, book: GaugeBook) -> tuple[Tier, ...]:
    def within(metric: str, duration: str) -> Comparison:
        return book.compare(metric, "<=", Fraction(parse_duration(duration), DAY_MS), window)

    recent, fresh = within("recency_days", spec.active_for), within("first_order_days", spec.new_for)
    never = book.compare("first_order_days", "<", Fraction(0), window, undefined=True)
    grown = Comparison(fresh.gauge, fresh.metric, ">", fresh.threshold, fresh.edge)
    return (
        Tier("churned", None),
        Tier("dormant", within("recency_days", spec.dormant_for)),
        Tier("prospect", never),
        Tier("new", Junction(True, (fresh, recent))),
        Tier("active", Junction(True, (grown, recent))),
    )


def _segments(spec: specs.SegmentsSpec, window: Window, book: GaugeBook) -> tuple[Tier, ...]:
    axes = {
        "r": _breaks("recency_days", spec.recency, window, book),
        "f": _breaks("frequency", spec.frequency, window, book),
        "m": _breaks("monetary", spec.monetary, window, book),
    }
    tiers = []
    for rank, segment in enumerate(spec.segments):
        rules = [
            rule
            for letter, breaks in axes.items()
            if (written := getattr(segment, letter)) is not None
            for rule in _band(breaks, *specs.levels_of(written))
        ]
        tiers.append(Tier(segment.name, None if rank == 0 else _join(True, tuple(rules))))
    return tuple(tiers)
