"""From readings to what people and events see: shown values, why, what next, what is at risk.

Everything here is recomputed from the facts; nothing is guessed and nothing decides.
"""

from functools import lru_cache
from zoneinfo import ZoneInfo

from models.codegen.outlook import Outlook
from models.instants import DAY_MS, LAST_INSTANT, format_instant
from models.money import Money
from models.outputs import AtRisk, Need, Next, Why
from models.policy.compile_schemes import Scheme
from models.rules.comparisons import Comparison, Finding, Lack, Readings, least_missing
from models.rules.hysteresis import Position, fall_instant, fallen, pass_time
from models.rules.metrics import Facts, Reading, Unit

Shown = str | float | int | None


def show(reading: Reading, unit: Unit, money: Money) -> Shown:
    """Return a reading in displayed units: money as a decimal text, days and numbers as floats, counts as integers."""
    if reading is None:
        return None
    numerator, denominator = reading
    if unit is Unit.MONEY:
        return money.text(numerator) if denominator == 1 else money.text_of_ratio(numerator, denominator)
    if unit is Unit.COUNT:
        return numerator // denominator
    return numerator / (denominator * DAY_MS) if unit is Unit.DAYS else numerator / denominator


def whys(findings: list[Finding], money: Money) -> list[Why]:
    """Return findings as events show them, each comparison once."""
    unique = {f.comparison.label: f for f in findings}
    return [
        Why(
            f.comparison.metric.name,
            show(f.reading, f.comparison.metric.unit, money),
            f.comparison.op,
            threshold(f.comparison, money),
            f.met,
        )
        for f in unique.values()
    ]


def why(scheme: Scheme, before: int | None, after: int, readings: Readings) -> list[Finding]:
    """Return the comparisons that decided a move from tier index `before` to `after`.

    Upwards: what holds of the new tier's rule. Downwards: what fails of each rule above the new tier, up to the
    one that was held. On entering at the bottom: what fails of the next tier's rule.
    """
    if before is not None and after < before:
        rules = [tier.rule for tier in scheme.tiers[after + 1 : before + 1]]
    else:
        rules = [(scheme.tiers[after] if after else scheme.tiers[1]).rule]
    return [finding for rule in rules if rule is not None for finding in rule.decisive(readings)]


def upcoming(scheme: Scheme, rank: int, readings: Readings, money: Money) -> Next | None:
    """Return the next tier up and what is missing for it; None at the top, and where tiers are no ladder."""
    if not scheme.ladder or rank + 1 >= len(scheme.tiers):
        return None
    tier = scheme.tiers[rank + 1]
    lacks = tier.rule.lacks(readings) if tier.rule is not None else []
    return Next(tier.name, [Need(lack.comparison.metric.name, missing(lack, money)) for lack in lacks])


def at_risk(outlook: Outlook, position: Position, facts: Facts, at: int, zone: ZoneInfo) -> AtRisk | None:
    """Return when and whereto the customer falls if nothing more happens; None if never."""
    fall = next_fall(outlook, position, facts, at, zone)
    return None if fall is None else AtRisk(fall[0], format_instant(fall[1]))


def next_fall(outlook: Outlook, position: Position, facts: Facts, at: int, zone: ZoneInfo) -> tuple[str, int] | None:
    """Return the tier that the customer falls to by time alone, and the instant (ms); None if never."""
    scheme, (rank, since, below_since) = outlook.scheme, position
    if rank == 0 and scheme.sinking:
        return None
    lasts = outlook.lasts(rank)
    if lasts is None:
        return _walk_to_fall(outlook, position, facts, at, zone)
    if below_since is None:
        below_since = max(at, lasts(facts, at))
    if below_since > LAST_INSTANT:
        return None
    falls = fall_instant(scheme.demotion, Position(rank, since, below_since), facts.since, zone)
    if falls is None or falls > LAST_INSTANT:
        return None
    falls = max(at, falls)
    return scheme.tiers[fallen(scheme.demotion, rank, outlook.rank(facts, falls))].name, falls


def _walk_to_fall(
    outlook: Outlook, position: Position, facts: Facts, at: int, zone: ZoneInfo
) -> tuple[str, int] | None:
    """The same, from change to change: time may lift the customer before they fall."""
    scheme = outlook.scheme
    if scheme.demotion.immediate:  # no instant but those of the rules counts
        rank, instant = position.rank, at
        while instant <= LAST_INSTANT:
            (qualified,), due = outlook.look(facts, instant)
            if qualified < rank:
                return scheme.tiers[fallen(scheme.demotion, rank, qualified)].name, instant
            rank, instant = qualified, due
        return None
    for instant, moved in pass_time(scheme.demotion, outlook.look, position, facts, at, zone):
        if moved.rank < position.rank:
            return scheme.tiers[moved.rank].name, instant
        position = moved
    return None


@lru_cache(maxsize=4_096)
def threshold(comparison: Comparison, money: Money) -> str | float | int:
    """Return the threshold of a comparison in displayed units."""
    value = comparison.threshold
    if comparison.metric.unit is Unit.MONEY:
        return money.text_of_ratio(comparison.edge.numerator, comparison.edge.denominator)
    return int(value) if value.denominator == 1 else float(value)


def missing(lack: Lack, money: Money) -> Shown:
    """Return the least that is missing in displayed units; None where the metric is undefined."""
    least = least_missing(lack)
    if least is None:
        return None
    return show((least.numerator, least.denominator), lack.comparison.metric.unit, money)
