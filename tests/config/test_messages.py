"""Both catalogues are complete and match, and the rendered sentences contain only facts of the report."""

import re
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from string import Formatter
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
import yaml

from config.messages import MessagesError, _Teller, catalogue, languages, render
from config.policy_files import load_timeline, presets
from models.customer.state import Customer
from models.engine.customer_report import UNWINDOWED, customer_report
from models.engine.decide import Engine
from models.engine.report_shapes import CustomerReport, NextPolicy, Passed, UpcomingCare
from models.events import Event, Profile
from models.instants import zone
from models.outputs import Decisions
from models.policy.compiled import Policy
from models.policy.timeline import Timeline
from models.rules.comparisons import OPS
from models.rules.metrics import METRICS
from tests.models.build import T0, Run, day, order, policy, tiers

LANGUAGES = ["en", "zh"]
ENGLISH, CHINESE = (catalogue(language).messages for language in LANGUAGES)


def report(rules: Policy, at: int, *events: Event) -> CustomerReport:
    customer, timeline = Customer("c1"), Timeline([rules])
    for event in events:
        Engine(timeline).ingest(customer, event, Decisions())
    return customer_report(customer, timeline, at)


def fields(message: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(message) if name is not None}


# --- catalogues ---------------------------------------------------------------------------------


def test_the_languages_are_those_of_the_files() -> None:
    assert languages() == LANGUAGES


def test_both_languages_have_the_same_messages_in_the_same_order() -> None:
    assert list(ENGLISH) == list(CHINESE)


@pytest.mark.parametrize("key", ENGLISH)
def test_both_languages_fill_in_the_same_names(key: str) -> None:
    assert fields(ENGLISH[key]) == fields(CHINESE[key])
    assert all(name.isidentifier() for name in fields(ENGLISH[key]))


@pytest.mark.parametrize("messages", [ENGLISH, CHINESE], ids=LANGUAGES)
def test_every_metric_operator_and_direction_is_covered(messages: dict[str, str]) -> None:
    for metric in (*METRICS, "score"):
        text = messages[f"metrics.{metric}"]
        assert ("{window}" in text or "{days}" in text) is (metric not in UNWINDOWED), metric
        assert all("{n}" in messages[f"values.{metric}.{form}"] for form in ("one", "other")), metric
    assert {key for key in messages if key.startswith("metrics.")} == {
        f"metrics.{name}" for name in (*METRICS, "score")
    }
    assert {key for key in messages if key.startswith("ops.")} == {f"ops.{op}" for op in OPS}
    assert {"passed.up", "passed.down", "passed.enter"} <= messages.keys()
    for place in ("first", "then"):
        assert {f"ahead.{place}.up", f"ahead.{place}.down"} <= messages.keys()
    assert {"needs.more.any", "needs.less.any", "needs.unknown.any", "needs.time", "needs.never"} <= messages.keys()
    assert {f"months.{month}" for month in range(1, 13)} <= messages.keys()
    pattern = re.compile(r"(needs|reasons)\.\w+\.(?!any$)(\w+)")
    assert {found[2] for key in messages if (found := pattern.fullmatch(key))} <= METRICS.keys()


def test_chinese_sentences_are_chinese() -> None:
    for key, message in CHINESE.items():
        if not key.startswith(("names.", "kinds.", "currencies.", "values.", "instant")):
            plain = Formatter().vformat(message, (), dict.fromkeys(fields(message), ""))
            assert not re.search(r"[A-Za-z,;()?!]", plain), key


@pytest.mark.parametrize("preset", presets())
def test_names_in_presets_are_translated(preset: str) -> None:
    known = {key.removeprefix("names.") for key in CHINESE if key.startswith("names.")}
    kinds = {key.removeprefix("kinds.") for key in CHINESE if key.startswith("kinds.")}
    latest = load_timeline(Path(preset)).latest
    names = {scheme.name for scheme in latest.schemes}
    names |= {tier.name for scheme in latest.schemes for tier in scheme.tiers}
    names |= {channel for rule in latest.care for channels in rule.action.channels.values() for channel in channels}
    assert {name.replace("_", "-") for name in names} <= known
    assert {rule.action.kind.replace("_", "-") for rule in latest.care} <= kinds
    assert f"currencies.{latest.money.currency}" in CHINESE


@pytest.mark.parametrize("language", ["fr", "", "../en", "EN", "zh_CN"])
def test_an_unknown_language_is_refused_with_the_allowed_ones(language: str) -> None:
    whole = report(policy(), day(1), order(day(0), "a"))
    with pytest.raises(MessagesError, match=re.escape(f"found {language!r}, allowed are en, zh")):
        render(whole, language)


# --- sentences ----------------------------------------------------------------------------------


def gold() -> CustomerReport:
    """In grace below gold: 760.00 of 800 and 4 orders of 12 (the example of the contract)."""
    rules = policy(
        {
            "tiers": [
                {"name": "regular"},
                {"name": "silver", "when": {"monetary": ">= 300", "frequency": ">= 3"}},
                {"name": "gold", "when": {"any": [{"monetary": ">= 800"}, {"frequency": ">= 12"}]}},
                {"name": "vip", "when": {"monetary": ">= 4000"}},
            ],
            "demotion": {"grace": "30d"},
        },
        timezone="Asia/Shanghai",
        currency="CNY",
    )
    amounts = (4_000, 20_000, 30_000, 26_000)
    return report(
        rules, day(106.04), *(order(day(number), str(number), amount) for number, amount in enumerate(amounts, 6))
    )


def rating() -> CustomerReport:
    spec = {
        "kind": "score",
        "metrics": {
            "monetary": {"breaks": [100, 500]},
            "recency_days": {"breaks": [7]},
            "satisfaction": {"breaks": [8]},
        },
        "tiers": [{"name": "basic"}, {"name": "gold", "at_least": 2}],
    }
    return report(policy(schemes={"rating": spec}), day(2.26), order(day(0), "a", 20_000))


def eventful() -> CustomerReport:
    """Several schemes, and one of everything else that a report may contain."""
    schemes = {
        "lifecycle": {"kind": "lifecycle"},
        "clubs": tiers({"tenure_days": ">= 365", "recency_days": "<= 7", "satisfaction": "> 8"}),
        "newcomers": tiers({"first_order_days": "< 5"}),
    }
    whole = report(policy(schemes=schemes), day(10), Profile(day(0), registered_at=day(0)), order(day(0), "a"))
    passed = [
        Passed("lifecycle", None, "new", "enter", "2026-01-01T00:00:00Z"),
        Passed("lifecycle", "new", "active", "up", "2026-01-02T00:00:00Z"),
        Passed("lifecycle", "active", "new", "down", "2026-01-03T00:00:00Z"),
    ]
    care = [UpcomingCare("b", "birthday_offer", "sms", "2026-03-01T09:00:00Z")]
    following = NextPolicy("test-2", "2026-06-01T00:00:00Z")
    return msgspec.structs.replace(
        whole, passed=passed, settled=1, pending=2, orphans=2, care=care, next_policy=following
    )


def everything() -> CustomerReport:
    """A customer at the top of one scheme, and undecided in another, which has no cut-offs."""
    rule = {"frequency": ">= 1", "monetary": ">= 5"}
    schemes = {
        "loyalty": tiers(rule),
        "share": {"kind": "percentile", "tiers": [{"name": "rest"}, {"name": "top", "top": "5%"}]},
    }
    return report(policy(schemes=schemes), day(0), order(day(0), "a"))


def undecided() -> CustomerReport:
    return report(policy(), day(0), Profile(None))


GOLDEN = yaml.safe_load((Path(__file__).parents[1] / "data" / "customer_reports.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", GOLDEN)
@pytest.mark.parametrize("language", LANGUAGES)
def test_the_sentences_are_those_of_the_data_file(name: str, language: str) -> None:
    assert render(REPORTS[name](), language) == GOLDEN[name][language]


REPORTS = {function.__name__: function for function in (gold, rating, eventful, everything, undecided)}


@pytest.mark.parametrize("name", REPORTS)
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_number_in_the_sentences_is_in_the_report(name: str, language: str) -> None:
    whole = REPORTS[name]()
    teller = _Teller(catalogue(language), zone(whole.timezone), whole.currency)
    scalars = list(leaves(msgspec.to_builtins(whole)))
    instants = {teller.instant(text) for text in scalars if isinstance(text, str) and INSTANT.fullmatch(text)}
    known = {Decimal(str(scalar)) for scalar in scalars if NUMBER.fullmatch(str(scalar))}
    text = "\n".join(render(whole, language))
    for instant in sorted(instants, key=len, reverse=True):
        text = text.replace(instant, "")
    for name_ in (whole.customer_id, "test-1", "test-2", *(each.tier for each in whole.schemes), "t0", "t1", "t2"):
        text = text.replace(name_, "")
    numbers = [Decimal(found.replace(",", "")) for found in re.findall(r"\d[\d,]*(?:\.\d+)?", text)]
    assert numbers or not whole.schemes
    for number in numbers:
        assert any(round(value, max(0, -exponent(number))) == number for value in known), number


def test_instants_are_in_the_zone_of_the_policy() -> None:
    whole = gold()
    moment = datetime.fromisoformat(whole.as_of).astimezone(ZoneInfo("Asia/Shanghai"))
    assert f"截至{moment.year}年{moment.month}月{moment.day}日 {moment:%H:%M}" in render(whole, "zh")[0]


INSTANT = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z")
NUMBER = re.compile(r"\d+(\.\d+)?")


def exponent(number: Decimal) -> int:
    return int(number.as_tuple().exponent)


def leaves(value: Any) -> Any:
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from leaves(part)
    elif value is not None and not isinstance(value, bool):
        yield value


def test_numbers_are_rounded_and_have_units() -> None:
    teller = _Teller(catalogue("en"), zone("UTC"), "USD")
    assert teller.value("recency_days", 1.04, 30) == "1 day"
    assert teller.value("recency_days", 35.26, 30) == "35.3 days"
    assert teller.value("recency_days", 30.0000001, 30) == "30.0000001 days", "it must differ from the threshold"
    assert teller.value("recency_days", 30, 30) == "30 days"
    assert teller.value("satisfaction", 7.666666, 8) == "7.67 points"
    assert teller.value("satisfaction", 0.3333, 0.3333) == "0.3333 points", "a threshold appears as it was written"
    assert teller.value("monetary", "1234567.80", "800.00") == "1,234,567.80 USD"
    assert teller.value("average_order_value", "33.33333333", "50.00") == "33.33 USD"
    assert teller.value("average_order_value", "50.00000001", "50.00") == "50.00000001 USD"
    assert teller.value("average_order_value", "0.00123456", 0, up=True) == "0.01 USD"
    assert teller.value("frequency", 1, 3) == "1"
    assert teller.value("satisfaction", None, 8) == ""
    assert _Teller(catalogue("zh"), zone("UTC"), "JPY").value("monetary", "12345", "1") == "12,345日元"
    assert _Teller(catalogue("zh"), zone("UTC"), "CHF").value("monetary", "5.00", "1") == "5.00CHF"


@pytest.mark.parametrize(
    ("instant", "tz", "english", "chinese"),
    [
        (
            "2026-07-09T10:00:00Z",
            "America/New_York",
            "9 July 2026, 06:00 (UTC-04:00)",
            "2026年7月9日 06:00（UTC-04:00）",
        ),
        (
            "2026-12-31T16:00:01Z",
            "Asia/Shanghai",
            "1 January 2027, 00:00:01 (UTC+08:00)",
            "2027年1月1日 00:00:01（UTC+08:00）",
        ),
        (
            "2026-01-02T00:00:00.001Z",
            "UTC",
            "2 January 2026, 00:00:00.001 (UTC+00:00)",
            "2026年1月2日 00:00:00.001（UTC+00:00）",
        ),
    ],
)
def test_instants_are_in_local_time_with_the_offset(instant: str, tz: str, english: str, chinese: str) -> None:
    tellers = [_Teller(catalogue(language), zone(tz), "USD") for language in LANGUAGES]
    assert [teller.instant(instant) for teller in tellers] == [english, chinese]


@pytest.mark.parametrize(
    ("language", "window", "text"),
    [
        ("en", "calendar_year", "the number of orders from 1 January 2026 to 31 December 2026"),
        ("zh", "calendar_year", "2026年1月1日至2026年12月31日的订单数"),
        ("en", "12 months", "the number of orders since 1 February 2025"),
        ("zh", "12 months", "自2025年2月1日起的订单数"),
    ],
)
def test_counting_periods_are_named_by_their_dates(language: str, window: str, text: str) -> None:
    rules = policy(tiers({"frequency": ">= 1"}, window=window))
    customer = Run(rules).take(order(T0, "a")).customer
    report = customer_report(customer, Timeline([rules]), T0)
    assert any(text in sentence for sentence in render(report, language))
