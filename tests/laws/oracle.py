"""A second implementation of threshold tiers: slow, simple, and sharing nothing with `models` but the event shapes.

It evaluates every instant at which anything could change, and one millisecond to either side, and computes every metric
from plain lists each time. The tests compare the engine with it, change for change.
"""

import heapq
import operator
from collections.abc import Callable, Iterator
from datetime import datetime
from fractions import Fraction
from itertools import pairwise
from statistics import median
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from models.events import Interaction, OrderCancelled, OrderPlaced, OrderRefunded, Pending, Profile

DAY = 86_400_000
UNITS = {"ms": 1, "d": DAY}
OPS: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    ">": operator.gt,
    "<=": operator.le,
    "<": operator.lt,
    "==": operator.eq,
}


class Change(NamedTuple):
    """A tier change by the oracle; instants are in ms."""

    scheme: str
    before: str | None
    after: str
    direction: str
    at: int
    cause: str
    sequence: int


def milliseconds(duration: str) -> int:
    unit = "ms" if duration.endswith("ms") else "d"
    return int(duration.removesuffix(unit)) * UNITS[unit]


def month_start(year: int, month: int, zone: ZoneInfo) -> int:
    """Return the instant (ms) at which a month begins; months beyond December are those of later years."""
    years, month = divmod(month - 1, 12)
    return int(datetime(year + years, month + 1, 1, tzinfo=zone).timestamp() * 1_000)


def looks_back(window: str, at: int, zone: ZoneInfo) -> int:
    """Return how far (ms) a window looks back as of an instant: what counts came later than that."""
    day = datetime.fromtimestamp(at / 1_000, zone)
    if window == "calendar_year":
        return at - month_start(day.year, 1, zone) + 1
    if window.endswith("months"):
        return at - month_start(day.year - 10, 120 + day.month - int(window.split(maxsplit=1)[0]) + 1, zone) + 1
    return milliseconds(window)


def comparisons(rule: dict[str, Any]) -> Iterator[tuple[str, str, Fraction]]:
    for key, part in rule.items():
        if key in ("all", "any"):
            for nested in part:
                yield from comparisons(nested)
        else:
            op, threshold = part.split()
            yield key, op, Fraction(threshold)


class Past:
    """The events so far, in the order of arrival, and the metrics of them."""

    def __init__(self, weights: dict[str, Fraction]) -> None:
        self.events: list[Pending] = []
        self.weights = weights

    def take(self, event: Pending) -> bool:
        """Remember an event; return whether it is new."""
        if isinstance(event, Profile):
            known = self.profile()
            new = known is None or (event != known and event.updated_at >= known.updated_at)
        else:
            new = _name(event) not in [_name(other) for other in self.events]
        if new:
            self.events.append(event)
        return new

    def profile(self) -> Profile | None:
        profiles = [event for event in self.events if isinstance(event, Profile)]
        return profiles[-1] if profiles else None

    def orders(self) -> list[tuple[int, int, int]]:
        """Return (instant, net amount, margin) of the counted orders."""
        counted = []
        for order in self.events:
            if not isinstance(order, OrderPlaced):
                continue
            refunds = [e.amount for e in self.events if isinstance(e, OrderRefunded) and e.order == order.order]
            cancelled = any(isinstance(e, OrderCancelled) and e.order == order.order for e in self.events)
            if not cancelled and not (refunds and sum(refunds) >= order.amount):
                counted.append((order.at, order.amount - sum(refunds), order.margin or 0))
        return sorted(counted)

    def recent(self, at: int, window: int) -> list[tuple[int, int, int]]:
        return [order for order in self.orders() if at - window < order[0] <= at]

    def interactions(self, at: int, window: int) -> list[Interaction]:
        return [e for e in self.events if isinstance(e, Interaction) and at - window < e.at <= at]

    def since(self) -> int:
        profile = self.profile()
        if profile is not None and profile.registered_at is not None:
            return profile.registered_at
        return min(event.at for event in self.events if event.at is not None)

    # The metrics as of an instant in displayed units, None if undefined; named as in policies.

    def recency_days(self, at: int, _window: int) -> Fraction | None:
        orders = self.orders()
        return Fraction(at - orders[-1][0], DAY) if orders else None

    def frequency(self, at: int, window: int) -> Fraction:
        return Fraction(len(self.recent(at, window)))

    def monetary(self, at: int, window: int) -> Fraction:
        return Fraction(sum(net for _, net, _ in self.recent(at, window)), 100)

    def margin(self, at: int, window: int) -> Fraction:
        return Fraction(sum(margin for _, _, margin in self.recent(at, window)), 100)

    def average_order_value(self, at: int, window: int) -> Fraction | None:
        count = self.frequency(at, window)
        return self.monetary(at, window) / count if count else None

    def tenure_days(self, at: int, _window: int) -> Fraction:
        return Fraction(max(0, at - self.since()), DAY)

    def first_order_days(self, at: int, _window: int) -> Fraction | None:
        orders = self.orders()
        return Fraction(at - orders[0][0], DAY) if orders else None

    def engagement(self, at: int, window: int) -> Fraction:
        return Fraction(sum(self.weights.get(contact.kind, 0) for contact in self.interactions(at, window)))

    def satisfaction(self, at: int, window: int) -> Fraction | None:
        scores = [Fraction(c.value or 0, 1000) for c in self.interactions(at, window) if c.kind == "survey"]
        return sum(scores, Fraction(0)) / len(scores) if scores else None

    def referrals(self, at: int, window: int) -> Fraction:
        return Fraction(sum(contact.kind == "referral" for contact in self.interactions(at, window)))

    def repurchase_rate(self, at: int, window: int) -> Fraction | None:
        recent = self.recent(at, window)
        return Fraction(len(recent) - (recent[0] == self.orders()[0]), len(recent)) if recent else None

    def growth(self, at: int, window: int) -> Fraction | None:
        half = window // 2
        early = self.monetary(at - half, half)
        return self.monetary(at, half) / early if early else None

    def rhythm_days(self, _at: int, _window: int) -> Fraction | None:
        times = [at for at, _, _ in self.orders()]
        gaps = [Fraction(later - earlier, DAY) for earlier, later in pairwise(times)][-12:]
        return median(gaps) if len(gaps) >= 2 else None

    def overdue(self, at: int, window: int) -> Fraction | None:
        rhythm, silence = self.rhythm_days(at, window), self.recency_days(at, window)
        return None if rhythm is None or silence is None else silence / max(rhythm, Fraction(1))

    def holds(self, rule: dict[str, Any], at: int, window: int) -> bool:
        truths = []
        for key, part in rule.items():
            if key == "all":
                truths.append(all(self.holds(nested, at, window) for nested in part))
            elif key == "any":
                truths.append(any(self.holds(nested, at, window) for nested in part))
            else:
                ((name, op, threshold),) = comparisons({key: part})
                value = getattr(self, name)(at, window)
                truths.append(value is not None and OPS[op](value, threshold))
        return all(truths)


class Ladder:
    """One scheme and the customer's position in it."""

    def __init__(self, name: str, spec: dict[str, Any], window: str, zone: ZoneInfo) -> None:
        self.name = name
        self.names = [tier["name"] for tier in spec["tiers"]]
        self.rules = [tier.get("when") for tier in spec["tiers"]]
        self.window, self.zone = spec["window"] or window, zone
        self.grace = milliseconds(spec["demotion"]["grace"])
        self.one = spec["demotion"]["step"] == "one"
        self.clawback = spec["demotion"]["clawback"]
        self.held: int | None = None
        self.below_since: int | None = None
        self.sequence = 0

    def judge(self, past: Past, at: int, cause: str) -> Iterator[Change]:
        qualified = max(
            rank
            for rank, rule in enumerate(self.rules)
            if rule is None or past.holds(rule, at, looks_back(self.window, at, self.zone))
        )
        if self.held is None:
            yield self.move(qualified, "enter", at, cause)
        elif qualified > self.held:
            yield self.move(qualified, "up", at, cause)
        if qualified < self.held and self.clawback and cause == "refund" and self.below_since is None:
            yield self.move(qualified, "down", at, cause)
        while qualified < self.held:
            if self.below_since is None:
                self.below_since = at
            if at < self.below_since + self.grace:
                return
            yield self.move(self.held - 1 if self.one else qualified, "down", at, cause)
        self.below_since = None

    def move(self, rank: int, direction: str, at: int, cause: str) -> Change:
        before = None if self.held is None else self.names[self.held]
        self.held, self.below_since, self.sequence = rank, None, self.sequence + 1
        return Change(self.name, before, self.names[rank], direction, at, cause, self.sequence)

    def candidates(self, past: Past) -> Iterator[int]:
        """Yield every instant at which time alone could matter, given the events so far."""
        if self.below_since is not None:
            yield self.below_since + self.grace
        spans = set[int]()
        if self.window in ("calendar_year", "3 months"):
            for number in range(1, 121):
                start = month_start(2022, number, self.zone)
                yield from range(start - 1, start + 2)
        else:
            half = milliseconds(self.window) // 2
            spans = {milliseconds(self.window), half, 2 * half}
        yield from self._after_spans(past, spans)

    def _after_spans(self, past: Past, spans: set[int]) -> Iterator[int]:
        """Yield the instants around some spans after each event, and those that the rules name."""
        times = [event.at for event in past.events if event.at is not None]
        for rule in self.rules:
            for name, _, threshold in comparisons(rule or {}):
                if name in ("recency_days", "tenure_days", "first_order_days"):
                    spans.add(int(threshold * DAY))
                if name == "overdue" and (rhythm := past.rhythm_days(0, 0)) is not None:
                    spans.add(int(threshold * max(rhythm, Fraction(1)) * DAY))
        for time in (*times, past.since()):
            for span in spans:
                yield from range(time + span - 1, time + span + 3)


def judge(spec: dict[str, Any], history: list[Pending], until: int) -> list[Change]:
    """Return every tier change of a history given in order, up to and including `until` (ms)."""
    past = Past({kind: Fraction(weight) for kind, weight in spec["weights"].items()})
    ladders = [
        Ladder(name, scheme, spec["window"], ZoneInfo(spec["timezone"])) for name, scheme in spec["schemes"].items()
    ]
    changes: list[Change] = []
    instants: list[int] = []
    now = None

    def evaluate(at: int, cause: str) -> None:
        for ladder in ladders:
            changes.extend(ladder.judge(past, at, cause))
            for candidate in ladder.candidates(past):
                if candidate > at and candidate not in known:
                    known.add(candidate)
                    heapq.heappush(instants, candidate)

    known: set[int] = set()
    for event in [*history, None]:
        end = until + 1 if event is None else event.at
        while instants and instants[0] < end:
            now = heapq.heappop(instants)
            evaluate(now, "time")
        if event is not None and past.take(event):
            evaluate(event.at, _cause(event))
    return changes


def _name(event: Pending) -> tuple[str, int] | Profile:
    match event:
        case OrderPlaced():
            return "order", event.order
        case OrderRefunded():
            return "refund", event.refund
        case OrderCancelled():
            return "cancel", event.order
        case Interaction():
            return "interaction", event.interaction
    return event


def _cause(event: Pending) -> str:
    causes = {OrderPlaced: "order", Interaction: "interaction", Profile: "profile"}
    return causes.get(type(event), "refund")
