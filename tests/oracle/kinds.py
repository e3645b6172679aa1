"""The oracle's reading of a customer at one instant: metrics, levels, and the tier of each kind of scheme.

The definitions are in `tests.oracle.oracle`. Like it, this imports nothing of what it checks.
"""

import operator
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from fractions import Fraction
from functools import cache, cached_property
from itertools import pairwise
from math import lcm
from typing import Any

Number = int | Fraction
Order = tuple[int, int, int]  # instant, amount and margin in cents
Event = dict[str, Any]

MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
DAY = MS["d"]
EPOCH = datetime.fromisoformat("1970-01-01T00:00:00Z")
OPERATORS = {">=": operator.ge, "<=": operator.le, "==": operator.eq, ">": operator.gt, "<": operator.lt}
IN_DAYS = {"recency_days", "first_order_days", "tenure_days", "rhythm_days"}
IN_CENTS = {"monetary", "margin", "average_order_value"}
STAGES = ["churned", "dormant", "prospect", "new", "active"]


def instant(written: str | int) -> int:
    """Milliseconds of an RFC 3339 text; an integer is milliseconds already."""
    if isinstance(written, int):
        return written
    return (datetime.fromisoformat(written) - EPOCH) // timedelta(milliseconds=1)


def duration(text: str) -> int:
    """Milliseconds of a duration such as 30d."""
    unit = text.lstrip("0123456789")
    return int(text.removesuffix(unit)) * MS[unit]


def exact(value: Any) -> Number:
    """A number as written, as an int if it is whole: ints compare faster."""
    number = Fraction(str(value))
    return number.numerator if number.denominator == 1 else number


@cache
def native(metric: str, written: Any) -> Number:
    """A threshold in the unit of the metrics here: milliseconds, cents, or as written."""
    return exact(Fraction(str(written)) * (DAY if metric in IN_DAYS else 100 if metric in IN_CENTS else 1))


class Known:
    """What is known of a customer so far: plain lists."""

    def __init__(self, weights: dict[str, Any]) -> None:
        self.weights = {kind: exact(weight) for kind, weight in weights.items()}
        self.placed: dict[str, Order] = {}
        self.refunds: dict[str, dict[str, int]] = defaultdict(dict)
        self.cancelled: set[str] = set()
        self.interactions: list[tuple[int, str, Any]] = []
        self.registered: int | None = None
        self.first_event: int | None = None
        self.orders: list[Order] = []

    @property
    def since(self) -> int:
        return self.first_event if self.registered is None else self.registered

    def add(self, at: int, event: Event) -> None:
        self.first_event = at if self.first_event is None else min(at, self.first_event)
        kind = event.get("type", "profile")
        if kind == "profile":
            self.registered = instant(event["registered_at"]) if event.get("registered_at") else None
        elif kind == "interaction":
            self.interactions.append((at, event["kind"], event.get("value")))
        elif kind == "order.placed":
            self.placed[event["order_id"]] = (at, cents(event["amount"]), cents(event.get("margin", "0")))
        elif kind == "order.refunded":
            self.refunds[event["order_id"]][event["refund_id"]] = cents(event["amount"])
        else:
            self.cancelled.add(event["order_id"])
        self.orders = sorted(self._counted())

    def _counted(self) -> Iterator[Order]:
        for order, (at, amount, margin) in self.placed.items():
            refunded = self.refunds.get(order, {})
            back = sum(refunded.values())
            if order not in self.cancelled and not (refunded and back >= amount):
                yield at, amount - back, margin


def cents(text: str) -> int:
    return int(Fraction(text) * 100)


class Look:
    """A customer as of now. Each metric is read off the list of their orders once an evaluation; None if unknown."""

    def __init__(self, known: Known, now: int, window: int) -> None:
        self.known, self.now, self.window = known, now, window
        self.read: dict[str, Number | None] = {}

    def __call__(self, metric: str) -> Number | None:
        if metric not in self.read:
            self.read[metric] = METRICS[metric](self)
        return self.read[metric]

    @cached_property
    def orders(self) -> list[Order]:
        """The orders in the window."""
        return self.between(self.window, 0)

    def between(self, start: int, end: int) -> list[Order]:
        """The orders of a stretch of time, given by how long ago (ms) it began and ended."""
        after, until = self.now - start, self.now - end
        return [order for order in self.known.orders if after < order[0] <= until]

    def contacts(self, kind: str) -> list[Any]:
        """The values of the interactions of a kind in the window."""
        after = self.now - self.window
        if not self.known.interactions:
            return []
        return [value for at, own, value in self.known.interactions if own == kind and after < at <= self.now]


def recency(look: Look) -> Number | None:
    return look.now - look.known.orders[-1][0] if look.known.orders else None


def first_order(look: Look) -> Number | None:
    return look.now - look.known.orders[0][0] if look.known.orders else None


def paid(orders: list[Order]) -> int:
    return sum([amount for _, amount, _ in orders])


def average(look: Look) -> Number | None:
    return Fraction(paid(look.orders), len(look.orders)) if look.orders else None


def repurchase(look: Look) -> Number | None:
    inside = look.orders
    return Fraction(len(inside) - (inside[0] is look.known.orders[0]), len(inside)) if inside else None


def growth(look: Look) -> Number | None:
    half = look.window // 2
    early = paid(look.between(2 * half, half))
    return Fraction(paid(look.between(half, 0)), early) if early else None


def engagement(look: Look) -> Number:
    return sum([weight * len(look.contacts(kind)) for kind, weight in look.known.weights.items()])


def satisfaction(look: Look) -> Number | None:
    scores = [Fraction(str(score)) for score in look.contacts("survey")]
    return sum(scores) / len(scores) if scores else None


def overdue(look: Look) -> Number | None:
    usual = rhythm(look.known)
    return None if usual is None else (look.now - look.known.orders[-1][0]) / max(usual, Fraction(DAY))


METRICS: dict[str, Callable[[Look], Number | None]] = {
    "recency_days": recency,
    "first_order_days": first_order,
    "tenure_days": lambda look: max(0, look.now - look.known.since),
    "frequency": lambda look: len(look.orders),
    "monetary": lambda look: paid(look.orders),
    "margin": lambda look: sum([margin for _, _, margin in look.orders]),
    "average_order_value": average,
    "repurchase_rate": repurchase,
    "growth": growth,
    "engagement": engagement,
    "satisfaction": satisfaction,
    "referrals": lambda look: len(look.contacts("referral")),
    "rhythm_days": lambda look: rhythm(look.known),
    "overdue": overdue,
}


def rhythm(known: Known) -> Fraction | None:
    """The median of the last 12 gaps between orders."""
    instants = [at for at, _, _ in known.orders]
    gaps = sorted([later - earlier for earlier, later in pairwise(instants)][-12:])
    if len(gaps) < 2:
        return None
    middle = len(gaps) // 2
    return Fraction(gaps[middle]) if len(gaps) % 2 else Fraction(gaps[middle - 1] + gaps[middle], 2)


Qualify = Callable[[Look], int]


def holds(rule: dict[str, Any], look: Look) -> bool:
    """Whether a rule as it is written holds."""
    for key, written in rule.items():
        if key == "all":
            truth = all(holds(part, look) for part in written)
        elif key == "any":
            truth = any(holds(part, look) for part in written)
        else:
            sign, number = written.split()
            found = look(key)
            truth = found is not None and OPERATORS[sign](found, native(key, number))
        if not truth:
            return False
    return True


def level(metric: str, breaks: list[Any], look: Look) -> int:
    """The level of a metric, 1 the worst."""
    found = look(metric)
    if found is None:
        return 1
    bounds = [native(metric, value) for value in breaks]
    falling = metric in ("recency_days", "overdue") if len(bounds) == 1 else bounds[0] > bounds[1]
    return 1 + len([bound for bound in bounds if (found <= bound if falling else found >= bound)])


def by_thresholds(scheme: dict[str, Any]) -> tuple[list[str], Qualify]:
    tiers = scheme["tiers"]

    def qualify(look: Look) -> int:
        # From the top, as the first that holds is the highest.
        return next(rank for rank in reversed(range(len(tiers))) if rank == 0 or holds(tiers[rank]["when"], look))

    return [tier["name"] for tier in tiers], qualify


def by_score(scheme: dict[str, Any]) -> tuple[list[str], Qualify]:
    tiers, parts = scheme["tiers"], scheme["metrics"]
    written = {metric: Fraction(str(part.get("weight", 1))) for metric, part in parts.items()}
    whole = lcm(*(weight.denominator for weight in written.values()))  # the same mean, in whole numbers
    weights = {metric: int(weight * whole) for metric, weight in written.items()}
    required = [exact(tier.get("at_least", 0)) * sum(weights.values()) for tier in tiers]

    def qualify(look: Look) -> int:
        points = sum(weights[metric] * level(metric, part["breaks"], look) for metric, part in parts.items())
        return max(rank for rank in range(len(tiers)) if points >= required[rank])

    return [tier["name"] for tier in tiers], qualify


def by_percentile(scheme: dict[str, Any]) -> tuple[list[str], Qualify]:
    tiers, metric = scheme["tiers"], scheme.get("metric", "monetary")

    def qualify(look: Look) -> int:
        found = look(metric)
        reached = [r for r, t in enumerate(tiers) if r and found is not None and found >= native(metric, t["cut"])]
        return max(reached, default=0)

    return [tier["name"] for tier in tiers], qualify


def by_matrix(scheme: dict[str, Any]) -> tuple[list[str], Qualify]:
    rows, columns = scheme["rows"], scheme["columns"]

    def qualify(look: Look) -> int:
        cells = scheme["cells"][level(rows["metric"], rows["cuts"], look) - 1]
        return scheme["tiers"].index(cells[level(columns["metric"], columns["cuts"], look) - 1])

    return scheme["tiers"], qualify


def by_lifecycle(scheme: dict[str, Any]) -> tuple[list[str], Qualify]:
    new_for, active_for, dormant_for = (duration(scheme[key]) for key in ("new_for", "active_for", "dormant_for"))

    def stage(look: Look) -> str:
        silence, age = look("recency_days"), look("first_order_days")
        if silence is None or age is None:
            return "prospect"
        if silence > dormant_for:
            return "churned"
        if silence > active_for:
            return "dormant"
        return "new" if age <= new_for else "active"

    return STAGES, lambda look: STAGES.index(stage(look))


def by_segments(scheme: dict[str, Any]) -> tuple[list[str], Qualify]:
    segments = scheme["segments"]
    axes = {"r": "recency_days", "f": "frequency", "m": "monetary"}
    breaks = {"r": scheme["recency"], "f": scheme["frequency"], "m": scheme["monetary"]}

    def fits(segment: dict[str, str], levels: dict[str, int]) -> bool:
        for letter, required in segment.items():
            if letter != "name" and not int(required[0]) <= levels[letter] <= int(required[-1]):
                return False
        return True

    def qualify(look: Look) -> int:
        levels = {letter: level(metric, breaks[letter], look) for letter, metric in axes.items()}
        return max(rank for rank, segment in enumerate(segments) if rank == 0 or fits(segment, levels))

    return [segment["name"] for segment in segments], qualify


KINDS = {
    "thresholds": by_thresholds,
    "score": by_score,
    "percentile": by_percentile,
    "matrix": by_matrix,
    "lifecycle": by_lifecycle,
    "segments": by_segments,
}
