"""From readings to what people and events see: displayed values, the reasons of a move, the next tier.

Everything is recomputed from the facts. Nothing here decides.
"""

from functools import lru_cache

from models.instants import DAY_MS
from models.money import Money
from models.outputs import Need, Next, Why
from models.rules.comparisons import Comparison, Finding, Lack, Readings, least_missing
from models.rules.metrics import Reading, Unit
from models.rules.scheme import Scheme

Shown = str | float | int | None


def render_reading(reading: Reading, unit: Unit, money: Money) -> Shown:
    """Return a reading in displayed units: money as decimal text, days and numbers as floats, counts as integers."""
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
            render_reading(f.reading, f.comparison.metric.unit, money),
            f.comparison.op,
            threshold(f.comparison, money),
            f.met,
        )
        for f in unique.values()
    ]


def why(scheme: Scheme, before: int | None, after: int, readings: Readings) -> list[Finding]:
    """Return the comparisons that decided a move from tier index `before` to `after`.

    For a rise: what holds in the new tier's rule. For a fall: what fails in each rule above the new tier, up to the
    tier that was held. For an entry at the lowest tier: what fails in the next tier's rule.
    """
    if before is not None and after < before:
        rules = [tier.rule for tier in scheme.tiers[after + 1 : before + 1]]
    else:
        rules = [(scheme.tiers[after] if after else scheme.tiers[1]).rule]
    return [finding for rule in rules if rule is not None for finding in rule.decisive(readings)]


def upcoming(scheme: Scheme, rank: int, readings: Readings, money: Money) -> Next | None:
    """Return the next tier up and what is missing for it; None at the top, or if the tiers are no ladder."""
    if not scheme.ladder or rank + 1 >= len(scheme.tiers):
        return None
    tier = scheme.tiers[rank + 1]
    lacks = tier.rule.lacks(readings) if tier.rule is not None else []
    return Next(tier.name, [Need(lack.comparison.metric.name, missing(lack, money)) for lack in lacks])


@lru_cache(maxsize=4_096)
def threshold(comparison: Comparison, money: Money) -> str | float | int:
    """Return the threshold of a comparison in displayed units."""
    value = comparison.threshold
    if comparison.metric.unit is Unit.MONEY:
        return money.text_of_ratio(comparison.edge.numerator, comparison.edge.denominator)
    return int(value) if value.denominator == 1 else float(value)


def missing(lack: Lack, money: Money) -> Shown:
    """Return the least that is missing, in displayed units; None if the metric is undefined."""
    least = least_missing(lack)
    if least is None:
        return None
    return render_reading((least.numerator, least.denominator), lack.comparison.metric.unit, money)
