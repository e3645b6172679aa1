"""Whole customer histories, the orders in which they may arrive, and policies for them.

Instants are drawn so that they meet: on window boundaries, recency breakpoints and grace ends of earlier events to the
millisecond, on leap days, in DST nights, at New Year, and together.
"""

from collections import defaultdict, deque
from typing import Any

from hypothesis import strategies as st

from models.events import Consent, Interaction, OrderCancelled, OrderPlaced, OrderRefunded, Pending, Profile, order_of
from models.identity import id64
from models.instants import DAY_MS, HOUR_MS, format_instant, parse_instant

START = parse_instant("2023-06-01T00:00:00Z")
WINDOWS = {"30d": 30, "90d": 90}
#: Windows by the calendar; `growth` and computed cut-offs want the others.
CALENDAR = ("calendar_year", "3 months")
GRACES = {"0d": 0, "1ms": 0, "10d": 10, "30d": 30}
RECENCIES = ("30", "45.5", "90")

#: Gaps between related events (days): around windows, recencies, and a grace after them.
SPANS = (0, 10, 15, 30, 40, 45, 45.5, 55.5, 60, 75.5, 90, 100, 120, 365)
LANDMARKS = [
    parse_instant(text)
    for text in (
        "2023-12-31T23:59:59.999Z",
        "2024-02-28T23:59:59.999Z",
        "2024-02-29T00:00:00Z",
        "2024-02-29T14:00:00Z",
        "2024-03-10T06:59:59.999Z",  # the clocks of New York go forward
        "2024-03-10T07:00:00Z",
        "2024-11-03T05:30:00Z",  # and back: this hour comes twice
        "2024-11-03T06:30:00Z",
        "2024-03-31T01:00:00Z",  # those of Nuuk, into the next day
        "2025-02-28T14:00:00Z",
        "2025-03-01T00:00:00Z",
    )
]
ZONES = ["America/New_York", "Asia/Shanghai", "Pacific/Kiritimati", "Pacific/Honolulu", "America/Nuuk"]
BIRTHDAYS = ["1992-02-29", "--02-28", "--03-01", "--12-31", "--01-01", "--03-10", "--11-03", "--03-30", "lunar:08-15"]
KINDS = ["visit", "survey", "referral", "complaint", "unsubscribe", "care.opened", "sings"]


@st.composite
def instants(draw: st.DrawFn, seen: list[int]) -> int:
    near = draw(st.sampled_from((0, 0, 0, -1, 1)))
    how = draw(st.sampled_from(("span", "span", "span", "landmark", "day") if seen else ("landmark", "day")))
    if how == "span":
        return draw(st.sampled_from(seen)) + round(draw(st.sampled_from(SPANS)) * DAY_MS) + near
    if how == "landmark":
        return draw(st.sampled_from(LANDMARKS)) + near
    return START + draw(st.integers(0, 600)) * DAY_MS + near


@st.composite
def _placed(draw: st.DrawFn, at: int, number: int) -> OrderPlaced:
    amount = draw(st.sampled_from((0, 1, 3_333, 5_000, 9_999, 10_000, 30_000)))
    return OrderPlaced(at, id64(f"o{number}"), amount, draw(st.sampled_from((None, None, 0, -250, 1_000))))


@st.composite
def _profile(draw: st.DrawFn, at: int) -> Profile:
    consent = draw(st.sampled_from((Consent(True), Consent(True), Consent(True, ("sms",)), Consent(False), None)))
    registered = draw(st.sampled_from((None, START - 10 * DAY_MS, at)))
    birthday, zone = draw(st.sampled_from(BIRTHDAYS)), draw(st.sampled_from((None, *ZONES)))
    return Profile(at, birthday, zone, draw(st.sampled_from((None, "de"))), consent, registered, {}, at)


@st.composite
def _event(draw: st.DrawFn, at: int, number: int) -> Pending:
    """Draw the event `number` of a history; refunds and cancellations may name orders that come later, or never."""
    match draw(st.sampled_from("ooooooirrcpip")):
        case "o":
            return draw(_placed(at, number))
        case "r":
            amount = draw(st.sampled_from((10_000, 99_999, 99_999, 4_999, 1_000, 1, 0)))
            return OrderRefunded(at, id64(f"r{number}"), draw(_order(number)), amount)
        case "c":
            return OrderCancelled(at, draw(_order(number)))
        case "i":
            kind = draw(st.sampled_from(KINDS))
            value = draw(st.integers(0, 20)) * 500 if kind == "survey" else None
            return Interaction(at, id64(f"i{number}"), kind, value)
        case _:
            return draw(_profile(at))


def _order(number: int) -> st.SearchStrategy[int]:
    """Return a strategy for the id of an order, most often of one drawn just before."""
    return st.integers(max(0, number - 3), number + 1).map(lambda other: id64(f"o{other}"))


@st.composite
def _conflict(draw: st.DrawFn, earlier: Pending, at: int) -> Pending:
    """Draw an event with an id that is taken, but with other content."""
    if isinstance(earlier, OrderPlaced):
        return OrderPlaced(at, earlier.order, draw(st.sampled_from((7, 20_000))), earlier.margin)
    if isinstance(earlier, OrderRefunded):
        return OrderRefunded(at, earlier.refund, earlier.order, earlier.amount + 1)
    return earlier


def _redelivered(event: Pending, events: list[Pending]) -> Pending:
    """Return the earlier cancellation of the same order if there is one: without an id, it is a repetition."""
    if isinstance(event, OrderCancelled):
        return next((e for e in events if isinstance(e, OrderCancelled) and e.order == event.order), event)
    return event


@st.composite
def histories(draw: st.DrawFn, *, conflicts: bool = False) -> list[Pending]:
    """Draw one customer's events in the order of event time (ties: as in the contract), with redeliveries."""
    events: list[Pending] = []
    seen: list[int] = []
    for number in range(draw(st.sampled_from((8, 5, 12, 3, 2, 1)))):
        repeats = bool(events) and draw(st.sampled_from((False, False, False, False, True)))
        at = draw(instants(seen))
        if repeats:
            earlier = draw(st.sampled_from(events))
            events.append(draw(_conflict(earlier, at)) if conflicts and draw(st.booleans()) else earlier)
        else:
            event = draw(_event(at, number))
            events.append(event if conflicts else _redelivered(event, events))
            seen.append(at)
    return sorted(events, key=place)


@st.composite
def moves(draw: st.DrawFn) -> list[Pending]:
    """Draw profiles of somebody who moves, or corrects their birthday, in the hours around it."""
    around = draw(st.sampled_from(LANDMARKS))
    hours = draw(st.lists(st.integers(-40, 40), min_size=2, max_size=5, unique=True))
    return [draw(_profile(around + hour * HOUR_MS)) for hour in sorted(hours)]


def place(event: Pending) -> tuple[int, int, str, int]:
    """Return the sort key of an event in event time. Its first part is the instant (ms)."""
    assert event.at is not None
    return order_of(event)


@st.composite
def arrivals(draw: st.DrawFn, history: list[Pending]) -> list[Pending]:
    """Draw any order of arrival in which events of one instant, type and id keep their order (one partition)."""
    waiting: dict[tuple[int, int, str, int], deque[Pending]] = defaultdict(deque)
    for event in history:
        waiting[place(event)].append(event)
    return [waiting[where].popleft() for where in draw(st.permutations([place(event) for event in history]))]


_THRESHOLDS: dict[str, tuple[str, ...]] = {
    "frequency": ("0", "1", "2", "2.5", "3"),
    "monetary": ("0", "50", "100.00", "99.99", "133.33", "300"),
    "recency_days": RECENCIES,
    "margin": ("0", "10", "-2.5"),
    "average_order_value": ("50", "100", "66.665", "33.333"),
    "tenure_days": ("30", "90", "365"),
    "first_order_days": ("30", "90"),
    "engagement": ("0", "1", "-0.5"),
    "satisfaction": ("5", "7.5"),
    "referrals": ("0", "1"),
    "repurchase_rate": ("0", "0.5", "1"),
    "growth": ("1", "0.5", "3"),
    "rhythm_days": ("30", "45"),
    "overdue": ("1", "1.5", "3"),
}
_OPS = (">=", ">=", ">=", ">", "<=", "<", "==")


@st.composite
def _leaf(draw: st.DrawFn) -> dict[str, str]:
    # The first three decide most real schemes.
    name = draw(st.sampled_from(("frequency", "monetary", "recency_days") * 3 + tuple(_THRESHOLDS)))
    usual = ("<=", "<") if name == "recency_days" else _OPS
    return {name: f"{draw(st.sampled_from(usual))} {draw(st.sampled_from(_THRESHOLDS[name]))}"}


def _join(parts: tuple[str, list[dict[str, Any]]]) -> dict[str, Any]:
    return {parts[0]: parts[1]}


RULES = st.recursive(
    st.one_of(_leaf(), st.tuples(_leaf(), _leaf()).map(lambda pair: pair[0] | pair[1])),
    lambda inner: st.tuples(st.sampled_from(("all", "any")), st.lists(inner, min_size=1, max_size=2)).map(_join),
    max_leaves=3,
)


def _window(scheme: Any) -> st.SearchStrategy[str | None]:
    """Draw a scheme's window; None: the policy's."""
    rolling = "growth" in str(scheme) or "percentile" in str(scheme)
    return st.sampled_from((None, *WINDOWS, *(() if rolling else CALENDAR)))


@st.composite
def _scheme(draw: st.DrawFn) -> dict[str, Any]:
    rules = draw(st.lists(RULES, min_size=1, max_size=3))
    # A lone comparison that a lower tier overrides is refused. Inside `all` it is not checked, and decides the same.
    rules = [{"all": [rule]} if len(rule) == 1 and not rule.keys() & {"all", "any"} else rule for rule in rules]
    grace, step = draw(st.sampled_from(sorted(GRACES))), draw(st.sampled_from(("qualified", "one")))
    tiers = [{"name": "t0"}, *({"name": f"t{number}", "when": rule} for number, rule in enumerate(rules, start=1))]
    window = draw(_window(tiers))
    demotion = {"grace": grace, "step": step, "clawback": draw(st.booleans())}
    return {"tiers": tiers, "window": window, "demotion": demotion}


def _level(highest: int) -> st.SearchStrategy[str]:
    return st.sampled_from([f"{low}-{high}" for low in range(1, highest + 1) for high in range(low, highest + 1)])


@st.composite
def _breaks(draw: st.DrawFn, metric: str) -> list[str]:
    numbers = draw(st.lists(st.sampled_from(_THRESHOLDS[metric]), min_size=1, max_size=3, unique_by=float))
    return sorted(numbers, key=float, reverse=metric == "recency_days" or draw(st.booleans()))


@st.composite
def _score(draw: st.DrawFn) -> dict[str, Any]:
    names = draw(st.lists(st.sampled_from(tuple(_THRESHOLDS)), min_size=1, max_size=3, unique=True))
    metrics = {
        name: {"breaks": draw(_breaks(name)), "weight": draw(st.sampled_from(("1", "0.5", "3")))} for name in names
    }
    tiers = [{"name": "t0"}, {"name": "t1", "at_least": "1.5"}, {"name": "t2", "at_least": "2"}]
    return {"kind": "score", "metrics": metrics, "tiers": tiers}


@st.composite
def _percentile(draw: st.DrawFn) -> dict[str, Any]:
    cuts = draw(st.sampled_from(((None, None), ("1", "2"), ("50", "133.33"))))
    tiers = [{"name": "t0"}, {"name": "t1", "top": "20%", "cut": cuts[0]}, {"name": "t2", "top": "5%", "cut": cuts[1]}]
    return {"kind": "percentile", "metric": draw(st.sampled_from(("monetary", "frequency"))), "tiers": tiers}


@st.composite
def _matrix(draw: st.DrawFn) -> dict[str, Any]:
    rows, columns = (draw(st.sampled_from(tuple(_THRESHOLDS))) for _ in range(2))
    axes = {
        "rows": {"metric": rows, "cuts": draw(_breaks(rows))},
        "columns": {"metric": columns, "cuts": draw(_breaks(columns))},
    }
    width = len(axes["columns"]["cuts"]) + 1
    names = st.sampled_from(("t0", "t1", "t2"))
    cells = [[draw(names) for _ in range(width)] for _ in range(len(axes["rows"]["cuts"]) + 1)]
    cells[0][0], cells[-1][-1] = "t0", "t1"
    tiers = sorted({name for row in cells for name in row})
    return {"kind": "matrix", **axes, "cells": cells, "tiers": tiers}


@st.composite
def _lifecycle(draw: st.DrawFn) -> dict[str, Any]:
    days = st.sampled_from(("0d", "10d", "30d", "45d"))
    return {"kind": "lifecycle", "new_for": draw(days), "active_for": draw(days), "dormant_for": "90d"}


@st.composite
def _segments(draw: st.DrawFn) -> dict[str, Any]:
    axes = {
        "recency": sorted(draw(_breaks("recency_days")), key=float, reverse=True),
        "frequency": sorted(draw(_breaks("frequency")), key=float),
        "monetary": sorted(draw(_breaks("monetary")), key=float),
    }
    recent, often, much = (_level(len(axis) + 1) for axis in axes.values())
    segments: list[dict[str, Any]] = [
        {"name": "t1", "r": draw(recent)},
        {"name": "t2", "f": draw(often), "m": draw(st.none() | much)},
    ]
    return {"kind": "segments", **axes, "segments": [{"name": "t0"}, *segments]}


@st.composite
def _kept_scheme(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a scheme of any kind, whose falls may be held back."""
    scheme = draw(st.one_of(_scheme(), _score(), _percentile(), _matrix(), _lifecycle(), _segments()))
    demotion = {
        "grace": draw(st.sampled_from(sorted(GRACES))),
        "step": draw(st.sampled_from(("qualified", "one"))),
        "min_stay": draw(st.sampled_from(("0d", "0d", "1ms", "45d"))),
        "keep": draw(st.sampled_from((None, None, "calendar_year", "anniversary"))),
        "clawback": draw(st.booleans()),
    }
    return {**scheme, "window": draw(_window(scheme)), "demotion": demotion}


_CARES: dict[str, dict[str, Any]] = {
    "tier_up": {},
    "tier_down": {"group": "g"},
    "at_risk": {"days_before": 14},
    "near_upgrade": {"within": "25%"},
    "welcome": {"after": "registration", "wait": "10d", "valid_for": "30d"},
    "churn": {"levels": {"watch": "1.5", "alert": "3"}, "prior": {"rhythm": "20d"}},
    "dormant": {"after": "30d", "group": "g"},
    "win_back": {"after": "45d", "every": "15d", "times": 2},
    "no_contact": {"after": "30d", "contacts": ["visit", "survey"]},
    "call_back": {"every": "60d", "contacts": ["referral"]},
    "interaction": {"interaction": "survey", "at_most": "5", "group": "g"},
    "anniversary": {"at": "01:30"},
    "holiday": {"calendar": "CN", "holidays": ["Spring Festival"], "days_before": 10},
    "calendar": {"weekdays": ["sat"], "month_days": [1, 31], "at": "02:30"},
}
#: Triggers that not every scheme allows.
_LADDERS_ONLY = frozenset({"near_upgrade"})


@st.composite
def _care(draw: st.DrawFn, trigger: str, schemes: list[str]) -> dict[str, Any]:
    return {
        "name": f"{trigger.replace('_', '-')}-rule",
        "kind": draw(st.sampled_from(("note", "offer"))),
        "trigger": trigger,
        "scheme": draw(st.sampled_from(schemes)),
        "consent": draw(st.sampled_from(("required", "not_needed"))),
        "audience": draw(st.sampled_from(("customer", "customer", "staff"))),
        "channel": draw(st.sampled_from(("email", ["email", "sms"]))),
        "priority": draw(st.sampled_from((50, 80))),
        "cooldown": draw(st.sampled_from((None, "20d"))),
        "attribution": draw(st.sampled_from((None, "30d"))),
        "holdout": draw(st.sampled_from((None, "50%"))),
        **_CARES[trigger],
    }


@st.composite
def cares(draw: st.DrawFn, schemes: list[str], *, ladders: bool = False) -> list[dict[str, Any]]:
    """Draw some care rules of the other kinds, each at most once. `ladders` says whether all schemes are ladders."""
    known = sorted(_CARES) if ladders else sorted(_CARES.keys() - _LADDERS_ONLY)
    triggers = draw(st.lists(st.sampled_from(known), max_size=3, unique=True))
    return [draw(_care(trigger, schemes)) for trigger in triggers]


@st.composite
def governances(draw: st.DrawFn) -> dict[str, Any]:
    """Draw what governs care rules."""
    hours = st.sampled_from(("00:00", "01:30", "02:30", "08:00", "21:00"))
    since, until = draw(st.lists(hours, min_size=2, max_size=2, unique=True))
    channels = draw(st.sampled_from((None, ["sms"])))
    quiet = {"since": since, "until": until, "channels": channels}
    caps = [{"at_most": 1, "per": "15d"}, {"at_most": 2, "per": "60d"}, {"at_most": 3, "per": "90d"}]
    return {
        "quiet_hours": draw(st.sampled_from((None, quiet))),
        "caps": draw(st.lists(st.sampled_from(caps), max_size=2)),
        "groups": {"g": draw(st.sampled_from(("0d", "10d")))},
    }


@st.composite
def timelines(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Draw one or two versions of a policy of any kinds; the second may begin within the history."""
    first = draw(specs(any_kind=True))
    if not draw(st.booleans()):
        return [first]
    start = draw(st.sampled_from(LANDMARKS)) + draw(st.sampled_from((0, 0, 1)))
    second = draw(specs(any_kind=True)) | {"version": "law-2", "effective_from": format_instant(start)}
    return [first, second]


@st.composite
def specs(draw: st.DrawFn, *, any_kind: bool = False) -> dict[str, Any]:
    """Draw a policy as its author writes it, with two schemes at most (of thresholds, or any kind) and care rules."""
    schemes = draw(st.lists(_kept_scheme() if any_kind else _scheme(), min_size=1, max_size=2))
    birthday = {"name": "birthday", "kind": "birthday_offer", "trigger": "birthday"}
    birthday["at"] = draw(st.sampled_from(("00:00", "01:30", "09:00", "23:30")))
    birthday["leap_day"] = draw(st.sampled_from(("02-28", "03-01")))
    birthday["days_before"] = draw(st.sampled_from((0, 0, 1, 30)))
    birthday["consent"] = draw(st.sampled_from(("required", "not_needed")))
    churn = {"name": "churn", "kind": "churn", "trigger": "condition", "when": draw(RULES), "consent": "not_needed"}
    return {
        "version": "law-1",
        "currency": "USD",
        "timezone": "America/New_York",
        "window": "90d",
        "weights": {"visit": "0.5", "complaint": "-1"},
        "schemes": {f"s{number}": scheme for number, scheme in enumerate(schemes)},
        "care": [birthday, churn, *draw(cares([f"s{number}" for number in range(len(schemes))]))],
        "governance": draw(governances()),
    }
