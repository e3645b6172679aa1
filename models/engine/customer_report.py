"""A report on one customer: why each tier is held, what the next one needs, what time alone will change.

`config.messages` puts it into words. The customer is not changed: the engine brings a copy to the instant.
"""

from collections.abc import Iterator

import msgspec

from models.codegen.outlook import at_risk
from models.customer.state import Customer
from models.engine.decide import Engine
from models.engine.report_shapes import (
    Below,
    Counted,
    CustomerReport,
    ExpectedMove,
    Grade,
    NextPolicy,
    NextTier,
    Passed,
    ReportedComparison,
    SchemeReport,
    Shortfall,
    UpcomingCare,
)
from models.errors import UnusableInput
from models.instants import DAY_MS, LAST_INSTANT, MAX_INSTANT, MIN_INSTANT, format_instant, local_date
from models.outputs import Decisions, Direction
from models.policy.compiled import Policy
from models.policy.evaluation import Evaluation, facts_of
from models.policy.timeline import Timeline
from models.rules import explain
from models.rules.comparisons import SCORE, Comparison, Finding, Junction, Lack, Rule, Score, least_missing
from models.rules.explain import Shown
from models.rules.hysteresis import Position, fall_instant, pass_time
from models.rules.metrics import Edges, Facts, Gauge, Reading
from models.rules.scheme import Scheme

#: The largest number of moves by time alone that are reported for a scheme; later ones are too far off to matter.
MAX_AHEAD = 6
#: How far ahead (ms) care actions are searched for: far enough for a birthday.
CARE_AHEAD = 366 * DAY_MS
#: Metrics that ignore the window.
UNWINDOWED = frozenset({"recency_days", "tenure_days", "first_order_days", "rhythm_days", "overdue", SCORE.name})
#: Metrics that only time changes and nothing lowers.
ONLY_GROWING = frozenset({"tenure_days", "first_order_days"})


class ReportError(UnusableInput):
    """There is no report as of that instant. Ask for a later one: past decisions never change."""


def customer_report(customer: Customer, timeline: Timeline, at: int) -> CustomerReport:
    """Return the report on a customer as of an instant (ms). Raises ReportError if it precedes the last decision."""
    if not MIN_INSTANT <= at <= MAX_INSTANT:
        raise ReportError("the instant: allowed are the years 1 to 8999")
    decided_to = customer.cursor
    if decided_to is not None and at < decided_to:
        raise ReportError(
            f"{format_instant(at)} is too early: the customer is decided about as of {format_instant(decided_to)}, "
            "allowed is that or later"
        )
    waiting, decisions = len(customer.pending), Decisions()
    customer = _copy(customer)
    Engine(timeline).advance(customer, at, decisions)
    policy, starts = timeline.at(at), timeline.next_start(at)
    evaluation = Evaluation(customer, policy, at, facts_of(customer, policy, at))
    return CustomerReport(
        customer_id=customer.customer_id,
        as_of=format_instant(at),
        decided_to=None if decided_to is None else format_instant(decided_to),
        settled=waiting - len(customer.pending),
        passed=[Passed(c.scheme, c.from_tier, c.to_tier, c.direction, c.effective_at) for c in decisions.changes],
        pending=len(customer.pending),
        orphans=customer.ledger.orphans,
        policy_version=policy.version,
        next_policy=None if starts is None else NextPolicy(timeline.at(starts).version, format_instant(starts)),
        timezone=policy.zone.key,
        currency=policy.money.currency,
        schemes=list(_schemes(evaluation)),
        care=_care(customer, timeline, at),
    )


def _copy(customer: Customer) -> Customer:
    return Customer.from_row(customer.customer_id, customer.to_row())


def _schemes(evaluation: Evaluation) -> Iterator[SchemeReport]:
    for scheme in evaluation.policy.schemes:
        standing, position = evaluation.standing(scheme)
        if standing is not None and position is not None:
            yield _scheme(evaluation, scheme, position)


def _scheme(evaluation: Evaluation, scheme: Scheme, position: Position) -> SchemeReport:
    policy, facts, readings, at = evaluation.policy, evaluation.facts, evaluation.readings, evaluation.at
    findings = explain.why(scheme, None, position.rank, readings)
    return SchemeReport(
        scheme=scheme.name,
        tier=scheme.tiers[position.rank].name,
        since=format_instant(position.since),
        lowest=position.rank == 0,
        ladder=scheme.ladder,
        why=_reasons(evaluation, findings),
        below=_below(evaluation, scheme, position),
        next=_next(evaluation, scheme, position.rank),
        at_risk=at_risk(policy.outlooks[scheme.name], position, facts, at, policy.zone),
        ahead=_ahead(scheme, policy, position, facts, at),
        grades=_grades(evaluation, scheme),
        metrics=policy.render_scheme_metrics[scheme.name](facts, at),
    )


def _below(evaluation: Evaluation, scheme: Scheme, position: Position) -> Below | None:
    falls_on = fall_instant(scheme.demotion, position, evaluation.facts.since, evaluation.policy.zone)
    if position.below_since is None or falls_on is None:
        return None
    rule = scheme.tiers[position.rank].rule
    needs = _shortfalls(evaluation, rule)
    return Below(format_instant(position.below_since), format_instant(falls_on), needs, _branches(rule))


def _counted(evaluation: Evaluation, comparison: Comparison) -> Counted | None:
    if comparison.metric.name in UNWINDOWED:
        return None
    window, at = evaluation.policy.gauges[comparison.gauge].window, evaluation.at
    if isinstance(window, int):
        return Counted(window / DAY_MS)
    last = local_date(window.leaves(at) - 1, window.zone) if window.running else None
    return Counted(None, local_date(window.opens(at) + 1, window.zone), last)


def _reasons(evaluation: Evaluation, findings: list[Finding]) -> list[ReportedComparison]:
    """Return findings in displayed units, each comparison over a window once."""
    unique = {(f.comparison.gauge, f.comparison.label): f for f in findings}
    return [_reason(evaluation, finding) for finding in unique.values()]


def _reason(evaluation: Evaluation, finding: Finding) -> ReportedComparison:
    (why,) = explain.whys([finding], evaluation.policy.money)
    counted = _counted(evaluation, finding.comparison)
    return ReportedComparison(why.metric, why.value, why.op, why.threshold, why.met, counted)


def _next(evaluation: Evaluation, scheme: Scheme, rank: int) -> NextTier | None:
    if not scheme.ladder or rank + 1 >= len(scheme.tiers):
        return None
    tier = scheme.tiers[rank + 1]
    return NextTier(tier.name, _shortfalls(evaluation, tier.rule), _branches(tier.rule))


def _shortfalls(evaluation: Evaluation, rule: Rule | None) -> list[Shortfall]:
    """Return what is missing for a rule to hold, each comparison over a window once."""
    lacks = [] if rule is None else rule.lacks(evaluation.readings)
    unique = {(lack.comparison.gauge, lack.comparison.label): lack for lack in lacks}
    return [_shortfall(evaluation, lack) for lack in unique.values()]


def _branches(rule: Rule | None) -> bool:
    """Whether there is more than one way to satisfy a rule."""
    if not isinstance(rule, Junction):
        return False
    return (not rule.every and len(rule.parts) > 1) or any(_branches(part) for part in rule.parts)


def _shortfall(evaluation: Evaluation, lack: Lack) -> Shortfall:
    comparison, reading = lack.comparison, _reading(evaluation, lack)
    reason = _reason(evaluation, Finding(comparison, reading, False))
    too_high = reading is not None and reading[0] > comparison.edge * reading[1]
    less = comparison.op in ("<", "<=") or (comparison.op == "==" and too_high)
    possible = not (less and reading is not None and comparison.metric.name in ONLY_GROWING)
    on = None if comparison.gauge < 0 else _holds_on(evaluation, comparison)
    return Shortfall(
        **msgspec.structs.asdict(reason),
        missing=_missing(evaluation.policy, lack),
        direction="less" if less else "more",
        on=None if on is None else format_instant(on),
        possible=possible,
    )


def _missing(policy: Policy, lack: Lack) -> Shown:
    missing = least_missing(lack)
    if missing is None:
        return None
    return explain.render_reading((missing.numerator, missing.denominator), lack.comparison.metric.unit, policy.money)


def _reading(evaluation: Evaluation, lack: Lack) -> Reading:
    """Return the reading that falls short. A score has no gauge; its reading follows from what is missing."""
    if lack.comparison.gauge >= 0:
        return evaluation.readings[lack.comparison.gauge]
    score = lack.comparison.edge - (lack.missing or 0)
    return score.numerator, score.denominator


def _holds_on(evaluation: Evaluation, comparison: Comparison) -> int | None:
    """Return the instant (ms) at which time alone makes a failing comparison hold; None if never."""
    gauge = evaluation.policy.gauges[comparison.gauge]
    alone = Gauge(gauge.metric, gauge.window, Edges.of([(comparison.op, comparison.edge)]))
    at = alone.next_change(evaluation.facts, evaluation.at)
    while at is not None and at <= LAST_INSTANT:
        if comparison.admits(alone.read(evaluation.facts, at)):
            return at
        at = alone.next_change(evaluation.facts, at)
    return None


def _ahead(scheme: Scheme, policy: Policy, position: Position, facts: Facts, at: int) -> list[ExpectedMove]:
    """Return the moves by time alone, in order, at most MAX_AHEAD."""
    moves: list[ExpectedMove] = []
    evaluate_rules = policy.outlooks[scheme.name].evaluate_rules
    for instant, moved in pass_time(scheme.demotion, evaluate_rules, position, facts, at, policy.zone):
        if moved.rank != position.rank:
            direction: Direction = "up" if moved.rank > position.rank else "down"
            moves.append(ExpectedMove(scheme.tiers[moved.rank].name, direction, format_instant(instant)))
            if len(moves) == MAX_AHEAD:
                break
        position = moved
    return moves


def _grades(evaluation: Evaluation, scheme: Scheme) -> list[Grade]:
    """Return the parts of a scheme's score; an empty list for other kinds."""
    rule = scheme.tiers[-1].rule
    if not isinstance(rule, Score):
        return []
    total = sum(part.weight for part in rule.parts)
    grades = []
    for part in rule.parts:
        level = part.level(evaluation.readings)
        reason = _reason(evaluation, part.nearest(evaluation.readings).decisive(evaluation.readings)[0])
        harder = None
        if level <= len(part.breaks):
            (harder,) = _shortfalls(evaluation, part.breaks[level - 1])
        levels = len(part.breaks) + 1
        grades.append(Grade(reason.metric, reason.value, reason.counted, level, levels, harder, part.weight / total))
    return grades


def _care(customer: Customer, timeline: Timeline, at: int) -> list[UpcomingCare]:
    """Return the next action of each care rule if time passes and nothing else happens."""
    idle, decisions = _copy(customer), Decisions()
    idle.pending.clear()
    Engine(timeline).advance(idle, min(at + CARE_AHEAD, LAST_INSTANT), decisions)
    first: dict[str, UpcomingCare] = {}
    for action in decisions.actions:
        if action.holdout:
            continue  # nothing will be sent
        first.setdefault(action.rule, UpcomingCare(action.rule, action.kind, action.channel, action.due_at))
    return list(first.values())
