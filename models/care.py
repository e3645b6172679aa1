"""Care rules: when a birthday or a condition calls for an action, and that each occasion calls once.

Pure functions over a customer, the facts and an instant. Who may be addressed is decided here too; sending
is somebody else's trade.
"""

from collections.abc import Sequence
from datetime import date, timedelta
from zoneinfo import ZoneInfo

from models import explain
from models.customer import Customer, Mark
from models.evaluation import Evaluation
from models.identity import event_id
from models.instants import format_instant, local_date, local_instant, zone
from models.outputs import CareAction, Decisions, Why
from models.policy import BirthdayRule, ConditionRule, Policy
from models.policy import CareAction as CareSpec


def attend(evaluation: Evaluation, holding: Sequence[int], decisions: Decisions) -> int | None:
    """Fire what is due at an instant (ms); return the next instant at which a birthday may be due, or None.

    `holding`: 1 for each condition that holds, in the order of the rules, else 0. When a condition may next change is
    what the gauges of its comparisons say.
    """
    customer, policy, at = evaluation.customer, evaluation.policy, evaluation.at
    instants, conditions = [], iter(holding)
    for rule in policy.care:
        mark = customer.marks.get(rule.action.rule)
        if mark is None:
            mark = customer.marks[rule.action.rule] = Mark()
        if isinstance(rule, BirthdayRule):
            due = _birthday(customer, policy, rule, mark, at, decisions)
            if due is not None:
                instants.append(due)
        else:
            holds = bool(next(conditions))
            if holds and not mark.holding:
                _begin(evaluation, rule, mark, decisions)
            mark.holding = holds
    return min(instants) if instants else None


def local_zone(customer: Customer, policy: Policy) -> ZoneInfo:
    """Return the customer's own time zone, or the policy's where they have none."""
    profile = customer.profile
    return policy.zone if profile is None or profile.timezone is None else zone(profile.timezone)


def birthday_in(year: int, birthday: str, leap_day: tuple[int, int]) -> date:
    """Return the date on which a birthday (`YYYY-MM-DD` or `--MM-DD`) is kept in a year.

    29 February is kept on `leap_day` (month, day) in common years.
    """
    month, day = int(birthday[-5:-3]), int(birthday[-2:])
    if (month, day) == (2, 29) and not _is_leap(year):
        month, day = leap_day
    return date(year, month, day)


def _birthday(
    customer: Customer, policy: Policy, rule: BirthdayRule, mark: Mark, at: int, decisions: Decisions
) -> int | None:
    profile = customer.profile
    if profile is None or profile.birthday is None or profile.birthday.startswith("lunar:"):
        return None
    tz = local_zone(customer, policy)
    if mark.due is None or at >= mark.due:
        mark.due = None
        today = local_date(at, tz)
        # A day that straddles the year's end still belongs to the coming birthday. The calendar begins with year 1,
        # and days before its birthdays may not exist.
        first = max(2, (today + timedelta(days=rule.days_before)).year)
        for year in range(first, min(today.year + 10, 9999)):
            day = birthday_in(year, profile.birthday, rule.leap_day) - timedelta(days=rule.days_before)
            instant = local_instant(day, rule.at, tz)
            if mark.occasion is not None and year <= mark.occasion:
                continue
            # A profile that arrives, or moves, on the day itself is still in time. Where the clocks skip the instant,
            # its day may be the one after.
            if instant <= at and local_date(instant, tz) == today:
                mark.occasion = year
                _emit(customer, policy, rule.action, str(year), at, [], decisions)
            elif instant > at:
                mark.due = instant
                break
    return mark.due


def _begin(evaluation: Evaluation, rule: ConditionRule, mark: Mark, decisions: Decisions) -> None:
    """A condition begins to hold."""
    at, policy = evaluation.at, evaluation.policy
    mark.occasion = at
    reasons = explain.whys(rule.rule.decisive(evaluation.readings), policy.money)
    _emit(evaluation.customer, policy, rule.action, str(at), at, reasons, decisions)


def _emit(
    customer: Customer, policy: Policy, spec: CareSpec, occasion: str, at: int, why: list[Why], decisions: Decisions
) -> None:
    if spec.needs_consent and not _may_address(customer, spec.channel):
        decisions.notes["care_without_consent"] += 1
        return
    standing = customer.standings.get(spec.scheme)
    decisions.actions.append(
        CareAction(
            action_id=event_id(customer.customer_id, spec.rule, occasion),
            rule=spec.rule,
            kind=spec.kind,
            customer_id=customer.customer_id,
            tier=None if standing is None else standing.tier,
            channel=spec.channel,
            template=spec.template,
            locale=None if customer.profile is None else customer.profile.locale,
            due_at=format_instant(at),
            expires_at=format_instant(at + spec.valid_for),
            priority=spec.priority,
            holdout=False,
            why=why,
            policy_version=policy.version,
        )
    )


def _may_address(customer: Customer, channel: str) -> bool:
    """Consent must have been given, for the channel too where channels are named, and not withdrawn since."""
    profile = customer.profile
    if profile is None or profile.consent is None or not profile.consent.marketing:
        return False
    withdrawn = customer.unsubscribed_at
    if withdrawn is not None and (profile.updated_at is None or profile.updated_at <= withdrawn):
        return False
    return profile.consent.channels is None or channel in profile.consent.channels


def _is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
