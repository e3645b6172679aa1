"""From checked specifications of care to compiled rules. Nothing is evaluated here."""

from collections.abc import Mapping, Sequence
from datetime import time
from fractions import Fraction

from models.instants import DAY_MS, parse_duration
from models.policy import care_rules as rules
from models.policy import care_specs as specs
from models.policy.compile_schemes import GaugeBook, compile_condition
from models.rules.comparisons import Rule, easier
from models.rules.periods import Window
from models.rules.scheme import Scheme

_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def compile_care(
    spec: specs.AnyCareRule, schemes: Mapping[str, Scheme], window: Window, book: GaugeBook
) -> rules.CareRule:
    """Return the rule that a specification describes. Its gauges are added to the book."""
    action = _action(spec, spec.scheme or next(iter(schemes)))
    match spec:
        case specs.OnConditionSpec():
            return rules.ConditionRule(action, compile_condition(spec.when, window, book))
        case specs.NearUpgradeSpec():
            share = Fraction(spec.within[:-1]) / 100
            above = schemes[action.scheme].tiers[1:]
            near = tuple(_near(tier.rule, share, book) for tier in above if tier.rule)
            return rules.NearUpgradeRule(action, near, share)
        case specs.ChurnSpec() | specs.SilenceSpec() | specs.CallBackSpec():
            return _silence(spec, action)
        case specs.DatedSpec() | specs.CalendarDaysSpec():
            return _dated(spec, action)
        case _:
            return _on_event(spec, action)


def _on_event(spec: specs.CareRuleSpec, action: rules.Action) -> rules.CareRule:
    compiled: rules.CareRule
    match spec:
        case specs.TierMoveSpec():
            compiled = rules.TierMoveRule(action, "up" if spec.trigger == "tier_up" else "down")
        case specs.AtRiskSpec():
            compiled = rules.AtRiskRule(action, spec.days_before * DAY_MS)
        case specs.WelcomeSpec():
            compiled = rules.WelcomeRule(action, spec.after == "order", parse_duration(spec.wait))
        case specs.OnInteractionSpec():
            at_most, at_least = _thousandths(spec.at_most), _thousandths(spec.at_least)
            compiled = rules.InteractionRule(action, spec.interaction, at_most, at_least)
        case specs.OnCampaignSpec():
            compiled = rules.CampaignRule(action, frozenset(spec.subjects))
        case _:
            raise TypeError(f"no compiler for {type(spec).__name__}")
    return compiled


def compile_governance(spec: specs.GovernanceSpec, care: Sequence[rules.CareRule]) -> rules.Governance:
    """Return the governance that a specification describes, for the compiled rules."""
    quiet = spec.quiet_hours
    apart = {group: parse_duration(written) for group, written in spec.groups.items()}
    caps = tuple(rules.Cap(cap.at_most, parse_duration(cap.per), _set(cap.kinds)) for cap in spec.caps)
    budgets = (
        rules.Budget(budget.name, budget.at_most, budget.period, _set(budget.tiers), _set(budget.kinds))
        for budget in spec.budgets
    )
    # A group allows one action at an instant even if its span is zero.
    spans = [max(apart[rule.action.group], 1) for rule in care if rule.action.group is not None]
    spans += [cap.per for cap in caps]
    spans += [rule.action.cooldown for rule in care]
    # An outcome exactly at the end of the attribution window counts.
    spans += [rule.action.attribution + 1 for rule in care if rule.action.attribution]
    watched = (rule.contacts for rule in care if isinstance(rule, rules.SilenceRule))
    return rules.Governance(
        quiet=None if quiet is None else rules.QuietHours(_time(quiet.since), _time(quiet.until), _set(quiet.channels)),
        caps=caps,
        budgets=tuple(budgets),
        apart=apart,
        members={group: frozenset(rule.action.rule for rule in care if rule.action.group == group) for group in apart},
        staff=frozenset(rule.action.rule for rule in care if not rule.action.to_customer),
        memory=max(spans, default=0),
        watched=frozenset[str]().union(*watched),
    )


def _action(spec: specs.CareRuleSpec, scheme: str) -> rules.Action:
    return rules.Action(
        rule=spec.name,
        kind=spec.kind,
        scheme=scheme,
        tiers=_set(spec.tiers),
        template=spec.template.replace("{kind}", spec.kind),
        channels={tier: tuple(channels) for tier, channels in spec.channel.items()},
        priority=spec.priority,
        valid_for=parse_duration(spec.valid_for),
        needs_consent=spec.consent == "required" and spec.audience == "customer",
        to_customer=spec.audience == "customer",
        group=spec.group,
        cooldown=0 if spec.cooldown is None else parse_duration(spec.cooldown),
        holdout=0 if spec.holdout is None else int(Fraction(spec.holdout[:-1]) * rules.MILLION / 100),
        attribution=0 if spec.attribution is None else parse_duration(spec.attribution),
        converts=frozenset(spec.converts),
        cost=spec.cost,
    )


def _dated(spec: specs.CareRuleSpec, action: rules.Action) -> rules.CareRule:
    match spec:
        case specs.BirthdaySpec():
            leap_month = spec.leap_month == "leap"
            return rules.BirthdayRule(action, _time(spec.at), spec.days_before, _month_day(spec.leap_day), leap_month)
        case specs.AnniversarySpec():
            return rules.AnniversaryRule(action, _time(spec.at), spec.days_before, _month_day(spec.leap_day))
        case specs.HolidaySpec(calendar=str() as calendar):
            names = tuple(spec.holidays)
            return rules.HolidayRule(action, _time(spec.at), spec.days_before, names, None, {}, calendar)
        case specs.HolidaySpec(calendar=specs.CalendarsSpec() as by):
            names, at = tuple(spec.holidays), _time(spec.at)
            return rules.HolidayRule(action, at, spec.days_before, names, by.attribute, dict(by.values), by.default)
        case specs.CalendarDaysSpec():
            weekdays = frozenset(_WEEKDAYS.index(day) for day in spec.weekdays)
            return rules.CalendarRule(action, _time(spec.at), weekdays, frozenset(spec.month_days))
        case _:
            raise TypeError(f"no compiler for {type(spec).__name__}")


def _silence(spec: specs.ChurnSpec | specs.SilenceSpec | specs.CallBackSpec, action: rules.Action) -> rules.CareRule:
    if isinstance(spec, specs.ChurnSpec):
        levels = tuple((name, Fraction(multiple)) for name, multiple in spec.levels.items())
        prior = spec.prior
        return rules.ChurnRule(
            action, levels, None if prior is None else (parse_duration(prior.rhythm), Fraction(prior.weight))
        )
    if isinstance(spec, specs.CallBackSpec):
        every = parse_duration(spec.every)
        return rules.SilenceRule(
            action, every, every, _UNLIMITED, frozenset(spec.contacts), orders=False, tenure=True, stay=True
        )
    contact = spec.trigger == "no_contact"
    return rules.SilenceRule(
        action,
        parse_duration(spec.after),
        0 if spec.every is None else parse_duration(spec.every),
        spec.times,
        frozenset(spec.contacts) if contact else frozenset(),
        orders=True,
        tenure=contact,
        stay=False,
    )


#: A call-back repeats until somebody calls.
_UNLIMITED = 10**9


def _near(rule: Rule, share: Fraction, book: GaugeBook) -> Rule:
    near = easier(rule, share)
    for leaf in near.leaves():
        book.note(leaf)
    return near


def _thousandths(written: str | None) -> int | None:
    return None if written is None else round(Fraction(written) * 1000)


def _set(written: list[str] | None) -> frozenset[str] | None:
    return None if written is None else frozenset(written)


def _time(written: str) -> time:
    return time.fromisoformat(written)


def _month_day(written: str) -> tuple[int, int]:
    month, day = written.split("-")
    return int(month), int(day)
