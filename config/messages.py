"""A report about a customer in English or Chinese sentences. Every word comes from a catalogue in `config/locale`.

This module selects the messages, orders them, and formats numbers and instants. It computes nothing about the customer:
`models.engine.customer_report` does.
"""

from collections.abc import Iterator, Sequence
from datetime import date
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import yaml

from models.engine.report_shapes import (
    Counted,
    CustomerReport,
    ExpectedMove,
    Grade,
    NextTier,
    ReportedComparison,
    SchemeReport,
    Shortfall,
)
from models.errors import UnusableInput
from models.instants import parse_instant, to_datetime, zone
from models.money import decimals
from models.rules.comparisons import SCORE
from models.rules.explain import Shown
from models.rules.metrics import METRICS, Unit

LOCALES = Path(__file__).parent / "locale"
#: Decimals of metrics. More are shown only if two different numbers would otherwise look the same.
_PLACES = {Unit.DAYS: 1, Unit.NUMBER: 2, Unit.COUNT: 0}
_MOST_PLACES = 9


class MessagesError(UnusableInput):
    """There is no catalogue for the language. The message lists the available languages."""


class Catalogue:
    """The messages of one language, by dotted keys."""

    def __init__(self, messages: dict[str, str]) -> None:
        self.messages = messages

    def __contains__(self, key: str) -> bool:
        return key in self.messages

    def text(self, key: str, **values: object) -> str:
        """Return a message with its values filled in."""
        return self.messages[key].format(**values)

    def counted(self, key: str, number: str, **values: object) -> str:
        """Return a message about a number, in its singular or plural form."""
        return self.text(f"{key}.{'one' if number == '1' else 'other'}", n=number, **values)

    def named(self, section: str, name: str) -> str:
        """Return the display form of a name in a policy; the name itself if the catalogue does not have it."""
        return self.messages.get(f"{section}.{name.replace('_', '-')}", name)

    def joined(self, parts: Sequence[str]) -> str:
        """Return parts as one list."""
        return self.messages["separator"].join(parts)


def languages() -> list[str]:
    """Return the languages that have a catalogue."""
    return sorted(path.stem for path in LOCALES.glob("*.yaml"))


@lru_cache
def catalogue(language: str) -> Catalogue:
    """Return the catalogue of a language. Raises MessagesError, which lists the available languages."""
    if language not in languages():
        raise MessagesError(f"language: found {language!r}, allowed are {', '.join(languages())}")
    return Catalogue(dict(_flat(yaml.safe_load((LOCALES / f"{language}.yaml").read_text(encoding="utf-8")))))


def render(account: CustomerReport, language: str) -> list[str]:
    """Return an account as sentences, one per line. Raises MessagesError for a language without a catalogue."""
    return list(_Teller(catalogue(language), zone(account.timezone), account.currency).tell(account))


def _flat(messages: dict[Any, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in messages.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)


class _Teller:
    """Renders accounts in one language, time zone and currency."""

    def __init__(self, words: Catalogue, tz: ZoneInfo, currency: str) -> None:
        self._words = words
        self._zone = tz
        self._currency = currency

    def tell(self, account: CustomerReport) -> Iterator[str]:
        """Yield the sentences of an account."""
        words, as_of = self._words, self.instant(account.as_of)
        yield words.text("head", customer=account.customer_id, as_of=as_of, version=account.policy_version)
        yield from self._way(account)
        if not account.schemes:
            yield words.text("undecided")
        for scheme in account.schemes:
            yield from self._scheme(scheme)
        for action in account.care:
            kind, channel = words.named("kinds", action.kind), words.named("names", action.channel)
            yield words.text("care", kind=kind, channel=channel, on=self.instant(action.due_at))
        if account.next_policy is not None:
            following = account.next_policy
            yield words.text("policy", version=following.version, on=self.instant(following.on))

    def instant(self, text: str) -> str:
        """Return an instant for people: to the minute, or finer if the instant is, with the offset from UTC."""
        moment = to_datetime(parse_instant(text)).astimezone(self._zone)
        precision = "milliseconds" if moment.microsecond else "seconds" if moment.second else "minutes"
        time = moment.time().isoformat(timespec=precision)
        offset = moment.isoformat(timespec="seconds")[19:]
        month = self._words.text(f"months.{moment.month}")
        return self._words.text("instant", year=moment.year, month=month, day=moment.day, time=time, offset=offset)

    def _way(self, account: CustomerReport) -> Iterator[str]:
        """Yield what happens between the last decision and the instant of the account, and the events after it."""
        words = self._words
        if account.decided_to not in (None, account.as_of):
            yield words.text("advanced", decided_to=self.instant(account.decided_to or ""))
        if account.settled:
            yield words.counted("settled", str(account.settled))
        for passed in account.passed:
            yield words.text(
                f"passed.{passed.direction}",
                scheme=words.named("names", passed.scheme),
                before=words.named("names", passed.from_tier or ""),
                tier=words.named("names", passed.to_tier),
                on=self.instant(passed.on),
            )
        if account.pending:
            yield words.counted("pending", str(account.pending))
        if account.orphans:
            yield words.counted("orphans", str(account.orphans))

    def _scheme(self, scheme: SchemeReport) -> Iterator[str]:
        words, tier = self._words, self._words.named("names", scheme.tier)
        name = words.named("names", scheme.scheme)
        yield words.text("scheme", scheme=name, tier=tier, since=self.instant(scheme.since))
        yield from self._why(scheme, tier)
        for grade in scheme.grades:
            yield self._grade(grade)
        if scheme.ladder:
            yield self._next(scheme.next, tier)
        if not scheme.ahead:
            yield words.text("ahead.never")
        for index, move in enumerate(scheme.ahead):
            yield self._move(move, "first" if index == 0 else "then")

    def _why(self, scheme: SchemeReport, tier: str) -> Iterator[str]:
        words = self._words
        if scheme.below is not None:
            since, falls_on = self.instant(scheme.below.since), self.instant(scheme.below.falls_on)
            yield words.text("below", tier=tier, since=since, falls_on=falls_on)
        # The grades explain the parts of a score.
        told = [reason for reason in scheme.why if not scheme.grades or reason.metric == SCORE.name]
        if told and (scheme.ladder or not scheme.lowest):
            reasons = words.joined([self._reason(reason) for reason in told])
            following = "" if scheme.next is None else words.named("names", scheme.next.tier)
            key = "lowest" if scheme.lowest else "met" if scheme.below is None else "unmet"
            yield words.text(f"why.{key}", tier=tier, next=following, reasons=reasons)
        if scheme.below is not None and scheme.below.needs:
            yield self._needs("keep", tier, scheme.below.needs, scheme.below.nearest)

    def _reason(self, reason: ReportedComparison) -> str:
        key = "met" if reason.met else "unmet"
        return self._comparison(f"reasons.{key if reason.value is not None else f'unknown_{key}'}", reason)

    def _grade(self, grade: Grade) -> str:
        words = self._words
        key = "top" if grade.next is None else "unknown" if grade.value is None else "next"
        wanted = "" if grade.next is None else self._wanted(grade.next)
        return words.text(
            f"grade.{key}",
            metric=self._metric(grade.metric, grade.counted),
            value=self.value(grade.metric, grade.value, None if grade.next is None else grade.next.threshold),
            level=grade.level,
            levels=grade.levels,
            wanted=wanted,
            gain=self.value(SCORE.name, grade.gain, 0),
        )

    def _next(self, following: NextTier | None, tier: str) -> str:
        words = self._words
        if following is None:
            return words.text("next.top", tier=tier)
        name = words.named("names", following.tier)
        if not following.needs:
            return words.text("next.unknown", tier=name)
        return self._needs("next", name, following.needs, following.nearest)

    def _needs(self, section: str, tier: str, needs: list[Shortfall], nearest: bool) -> str:
        possible = all(need.possible for need in needs)
        key = "never" if not possible else "nearest" if nearest else "all"
        return self._words.text(
            f"{section}.{key}", tier=tier, needs=self._words.joined([self._need(need) for need in needs])
        )

    def _need(self, need: Shortfall) -> str:
        if not need.possible:
            return self._comparison("needs.never", need)
        if need.value is None:
            return self._comparison("needs.unknown", need)
        if need.on is not None:
            return self._comparison("needs.time", need, on=self.instant(need.on))
        missing = self.value(need.metric, need.missing, 0, up=True)
        return self._comparison(f"needs.{need.direction}", need, missing=missing)

    def _comparison(self, key: str, reason: ReportedComparison, **more: str) -> str:
        words, told = self._words, f"{key}.{reason.metric}"
        message = told if told in words else f"{key}.any" if f"{key}.any" in words else key
        return words.text(
            message,
            metric=self._metric(reason.metric, reason.counted),
            value=self.value(reason.metric, reason.value, reason.threshold),
            wanted=self._wanted(reason),
            **more,
        )

    def _wanted(self, reason: ReportedComparison) -> str:
        threshold = self.value(reason.metric, reason.threshold, reason.threshold)
        return self._words.text(f"ops.{reason.op}", threshold=threshold)

    def _metric(self, name: str, counted: Counted | None) -> str:
        words, days, window = self._words, "", ""
        if counted is not None and counted.days is not None:
            days = words.counted("days", _plain(_decimal(counted.days)))
            window = words.text("window.rolling", days=days)
        elif counted is not None:
            first, last = self._date(counted.first), self._date(counted.last)
            window = words.text("window.period" if last else "window.since", first=first, last=last)
        return words.text(f"metrics.{name}", window=window, days=days)

    def _date(self, day: date | None) -> str:
        if day is None:
            return ""
        return self._words.text("date", year=day.year, month=self._words.text(f"months.{day.month}"), day=day.day)

    def _move(self, move: ExpectedMove, place: str) -> str:
        tier = self._words.named("names", move.tier)
        return self._words.text(f"ahead.{place}.{move.direction}", tier=tier, on=self.instant(move.on))

    def value(self, metric: str, value: Shown, apart_from: Shown, *, up: bool = False) -> str:
        """Return a reading for people: rounded, but never to the same text as the different number `apart_from`.

        `up`: an amount of money is rounded up, so that it is enough.
        """
        if value is None:
            return ""
        exact, other = _decimal(value), None if apart_from is None else _decimal(apart_from)
        unit = SCORE.unit if metric == SCORE.name else METRICS[metric].unit
        rounding = ROUND_CEILING if up and unit is Unit.MONEY else ROUND_HALF_EVEN
        places = decimals(self._currency) if unit is Unit.MONEY else _PLACES[unit]
        while places < _MOST_PLACES and (_cut(exact, places, rounding) == other) is not (exact == other):
            places += 1
        told = _cut(exact, places, rounding)
        number = f"{told:,}" if unit is Unit.MONEY else _plain(told)
        currency = self._words.named("currencies", self._currency)
        return self._words.counted(f"values.{metric}", number, currency=currency)


def _decimal(value: str | float) -> Decimal:
    return Decimal(value if isinstance(value, str) else repr(value))


def _cut(value: Decimal, places: int, rounding: str) -> Decimal:
    return value.quantize(Decimal(1).scaleb(-places), rounding)


def _plain(value: Decimal) -> str:
    """Return a number without trailing zeros in its fraction."""
    text = f"{value:,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
