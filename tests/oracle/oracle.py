"""An oracle: tier histories by brute force, sharing not a line with what it checks.

It reads a policy as YAML and events as JSON, and imports nothing of tidemark. Nothing here is compiled, indexed or
kept as a running total: it looks at a customer at every instant at which anything could change, and reads every metric
off the plain list of their orders each time. The definitions, in plain words:

*Time.* Whole milliseconds since 1970. A day is 24 hours. Events are taken one after another by instant; at one instant
profiles come before orders, refunds and cancellations, those before interactions, and else the order of the file
decides. After each of them the customer is looked at, and so they are at every other instant listed below.

*Orders.* An order counts from its instant on, for its amount less all its refunds known so far. It stops counting
altogether, as if it had never been, once it is cancelled or its refunds reach its amount. A refund known before its
order waits for it. An id that was seen before is ignored.

*Metrics* at an instant T with a window W: `frequency`, `monetary` and `margin` are number, amount and margin of the
orders with T - W < t <= T; `average_order_value` is monetary by frequency; `recency_days` is T less the last order and
`first_order_days` T less the first, however long ago; `tenure_days` is T less the registration, else the first event;
`engagement` is the sum of the weights of the interactions in the window, `satisfaction` the mean of its surveys,
`referrals` their number; `repurchase_rate` is the share of the orders in the window that are not the customer's first;
`growth` is monetary of the last half window by that of the half before it, a half being W / 2 without what is finer
than a millisecond; `rhythm_days` is the median of the last 12 gaps between orders, given at least two; `overdue` is
recency by rhythm, which is taken as at least a day. Where there is nothing to divide by, or no order yet, a metric is
unknown. An unknown metric satisfies no comparison and has level 1.

*Levels.* With rising breaks a metric has level 1, and one more for each break that it reaches (>=); with falling breaks
less is better, and each break counts that it does not exceed (<=). A single break falls for recency_days and overdue.

*The tier that a customer qualifies for*, by the kind of scheme:
  thresholds  the highest whose rule holds: all comparisons of a mapping, every or any rule of a list
  score       the highest whose `at_least` the mean of the levels, weighted, reaches
  percentile  the highest whose `cut` the metric reaches
  matrix      the cell at the level of the rows' metric and the level of the columns'
  lifecycle   prospect without any order; else by the silence since the last: within active_for, new (the first order at
              most new_for ago) or active; then, within dormant_for, dormant; then churned
  segments    the last listed whose levels all fit, else the first

*The tier that they hold.* The first look gives the tier that they qualify for. A higher one is theirs at once. A lower
one only when, at one look, they have been below for `grace` without interruption, have held their tier for `min_stay`,
and the period is over that follows the one in which they last qualified, which was a millisecond before they stood
below: a calendar year of the policy's time zone, or a year since the registration (since the first event without one).
Then they get the tier that they qualify for, or with `step: one` the next lower one; where they are below that
too, everything starts anew at that instant.

*Instants looked at:* every event; each event's instant plus the window or half window, a millisecond before and after;
every order, and the registration, plus each number of days that the scheme names, and a millisecond before and after;
where `overdue` matters, the instants at which it reaches or passes its thresholds; the ends of grace, minimum stay and
kept period; and, so that a kind of instant missing from this list would be found out too, every week.
"""

import heapq
import json
import operator
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime, timedelta
from fractions import Fraction
from functools import cache, cached_property
from itertools import pairwise
from math import ceil, lcm
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

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
CAUSES = {
    "order.placed": "order",
    "order.refunded": "refund",
    "order.cancelled": "refund",
    "interaction": "interaction",
}


class Change(NamedTuple):
    """A tier change, with its instant in milliseconds."""

    at: int
    customer: str
    scheme: str
    before: str | None
    after: str
    cause: str


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
    """A number as it is written, an int where it is whole: those compare faster."""
    number = Fraction(str(value))
    return number.numerator if number.denominator == 1 else number


@cache
def native(metric: str, written: Any) -> Number:
    """A threshold in the unit in which metrics are held here: milliseconds, cents, or as it is."""
    return exact(Fraction(str(written)) * (DAY if metric in IN_DAYS else 100 if metric in IN_CENTS else 1))


class Known:
    """What is known of a customer so far: plain lists."""

    def __init__(self, weights: dict[str, Any]) -> None:
        self.weights = {kind: exact(weight) for kind, weight in weights.items()}
        self.placed: dict[str, Order] = {}
        self.refunds: dict[str, dict[str, int]] = defaultdict(dict)
        self.cancelled: set[str] = set()
        self.contacts: list[tuple[int, str, Any]] = []
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
            self.contacts.append((at, event["kind"], event.get("value")))
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
    """A customer as of now. Each metric is read off the list of their orders once a look; None where it is unknown."""

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
        if not self.known.contacts:
            return []
        return [value for at, own, value in self.known.contacts if own == kind and after < at <= self.now]


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
    wanted = [exact(tier.get("at_least", 0)) * sum(weights.values()) for tier in tiers]

    def qualify(look: Look) -> int:
        points = sum(weights[metric] * level(metric, part["breaks"], look) for metric, part in parts.items())
        return max(rank for rank in range(len(tiers)) if points >= wanted[rank])

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
        for letter, wanted in segment.items():
            if letter != "name" and not int(wanted[0]) <= levels[letter] <= int(wanted[-1]):
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


def named_days(scheme: dict[str, Any], *metrics: str) -> set[int]:
    """Every number of days (ms) that a scheme compares one of the metrics with."""
    if scheme.get("kind") == "lifecycle":
        return {duration(scheme[key]) for key in ("new_for", "active_for", "dormant_for")}
    return {ceil(native(metric, number)) for metric, number in _named(scheme) if metric in metrics}


def _named(part: Any) -> Iterator[tuple[str, Any]]:
    """Yield (metric, number) of everything that looks like a threshold, wherever it stands."""
    if isinstance(part, list):
        for one in part:
            yield from _named(one)
    elif isinstance(part, dict):
        for key, value in part.items():
            if key == "recency":
                yield from (("recency_days", number) for number in value)
            elif isinstance(value, str) and value[:1] in "<>=":
                yield key, value.split()[1]
            elif isinstance(value, dict) and "breaks" in value:
                yield from ((key, number) for number in value["breaks"])
            elif isinstance(value, dict) and "cuts" in value:
                yield from ((value["metric"], number) for number in value["cuts"])
            else:
                yield from _named(value)


class Ladder:
    """Where a customer stands: the tier held, since when, and since when below it."""

    def __init__(self, demotion: dict[str, Any], zone: ZoneInfo) -> None:
        self.grace = duration(demotion.get("grace", "0d"))
        self.min_stay = duration(demotion.get("min_stay", "0d"))
        self.one = demotion.get("step") == "one"
        self.keep = demotion.get("keep")
        self.zone = zone
        self.rank: int | None = None
        self.since = 0
        self.below: int | None = None

    def look(self, qualified: int, now: int, registered: int) -> Iterator[tuple[int | None, int]]:
        """Yield each move (from, to) that happens now."""
        while True:
            before = self.rank
            if before is None or qualified > before:
                self._hold(qualified, now)
            elif qualified == before:
                self.below = None
            else:
                self.below = now if self.below is None else self.below
                if now >= self.fall(registered):
                    self._hold(before - 1 if self.one else qualified, now)
            if self.rank == before:
                return
            yield before, self.rank

    def _hold(self, rank: int, now: int) -> None:
        self.rank, self.since, self.below = rank, now, None

    def fall(self, registered: int) -> int:
        """The instant at which they fall if they stay below."""
        waits = [self.below + self.grace, self.since + self.min_stay]
        if self.keep == "calendar_year":
            waits.append(self._midnight(date(self._day(self.below - 1).year + 2, 1, 1)))
        elif self.keep == "anniversary":
            # Count whole years from the registration until one begins after the instant; then one more.
            start, years = self._day(registered), 0
            while self._midnight(anniversary(start, years)) <= self.below - 1:
                years += 1
            waits.append(self._midnight(anniversary(start, years + 1)))
        return max(waits)

    def _day(self, at: int) -> date:
        return (EPOCH + timedelta(milliseconds=at)).astimezone(self.zone).date()

    def _midnight(self, day: date) -> int:
        return instant(datetime(day.year, day.month, day.day, tzinfo=self.zone).isoformat())


def anniversary(start: date, years: int) -> date:
    """The same day some years later; 29 February is the 28th where there is none, and for all its anniversaries."""
    leap_day = (start.month, start.day) == (2, 29)
    return date(start.year + years, start.month, 28 if leap_day else start.day)


def candidates(events: list[tuple[int, Event]], scheme: dict[str, Any], window: int, until: int) -> set[int]:
    """Every instant that is known beforehand to be worth a look."""
    starts = {at for at, _ in events}
    leaves = {window, window // 2, window // 2 * 2} if "growth" in str(scheme) else {window}
    lengths = named_days(scheme, "recency_days", "first_order_days") | leaves
    silences = dict.fromkeys(starts, lengths)
    registered = {instant(event["registered_at"]) for _, event in events if event.get("registered_at")}
    tenures = {start: named_days(scheme, "tenure_days") for start in registered | {min(starts)}}
    looks = {
        start + length + off
        for after in (silences, tenures)
        for start, lengths in after.items()
        for length in lengths
        for off in (-1, 0, 1)
    }
    return starts | looks | set(range(min(starts), until, MS["w"]))


def history(customer: str, name: str, policy: dict[str, Any], events: list[Event], until: int) -> list[Change]:
    """Every tier change of one customer in one scheme, by looking at every instant."""
    scheme = policy["schemes"][name]
    names, qualify = KINDS[scheme.get("kind", "thresholds")](scheme)
    window = duration(scheme.get("window", policy.get("window", "365d")))
    overdue = [native(metric, number) for metric, number in _named(scheme) if metric == "overdue"]
    dated = [(_when(event), event) for event in events]
    waiting = list(candidates(dated, scheme, window, until))
    heapq.heapify(waiting)
    by_instant: dict[int, list[Event]] = defaultdict(list)
    for at, event in dated:
        by_instant[at].append(event)
    known, ladder = Known(policy.get("weights", {})), Ladder(scheme.get("demotion", {}), _zone(policy))
    changes: list[Change] = []
    last = None
    while waiting and waiting[0] <= until:
        now = heapq.heappop(waiting)
        if now == last or (last is None and now not in by_instant):
            continue
        last = now
        for event in by_instant.get(now, [None]):
            if event is not None:
                known.add(now, event)
            cause = "time" if event is None else CAUSES.get(event.get("type"), "profile")
            qualified = qualify(Look(known, now, window))
            for before, after in ladder.look(qualified, now, known.since):
                left = None if before is None else names[before]
                changes.append(Change(now, customer, name, left, names[after], cause))
        more = [] if ladder.below is None else [ladder.fall(known.since)]
        if overdue and now in by_instant and (usual := rhythm(known)) is not None:
            more += [known.orders[-1][0] + ceil(ratio * max(usual, DAY)) + off for ratio in overdue for off in (0, 1)]
        for later in more:
            if later > now:
                heapq.heappush(waiting, later)
    return changes


def _zone(policy: dict[str, Any]) -> ZoneInfo:
    return ZoneInfo(policy.get("timezone", "UTC"))


def _when(event: Event) -> int:
    return instant(event.get("occurred_at") or event["updated_at"])


def read_events(files: Iterable[Path]) -> dict[str, list[Event]]:
    """Events by customer in the order in which they are taken; `files` are profiles, orders, interactions."""
    events: dict[str, list[Event]] = defaultdict(list)
    seen = set()
    for file in files:
        for line in file.read_text().splitlines():
            event = json.loads(line)
            kind = event.get("type", "profile")
            key = {"order.placed": "order_id", "order.refunded": "refund_id", "interaction": "interaction_id"}.get(kind)
            identity = (event["customer_id"], kind, event[key] if key else None)
            if key is None or identity not in seen:
                events[event["customer_id"]].append(event)
            seen.add(identity)
    # Sorting is stable: at one instant the order of the files, then of their lines, stays.
    return {customer: sorted(listed, key=_when) for customer, listed in events.items()}


def all_changes(policy: dict[str, Any], events: dict[str, list[Event]], until: int) -> list[Change]:
    """Every tier change of every customer in every scheme, sorted."""
    changes = [
        change
        for name in policy["schemes"]
        for customer, own in events.items()
        for change in history(customer, name, policy, own, until)
    ]
    return sorted(changes, key=_place)


def told_changes(file: Path) -> list[Change]:
    """The tier changes that a replay wrote, in the oracle's words, sorted."""
    changes = [
        Change(
            instant(told["effective_at"]), told["customer_id"], told["scheme"], told["from"], told["to"], told["cause"]
        )
        for told in map(json.loads, file.read_text().splitlines())
    ]
    return sorted(changes, key=_place)


def _place(change: Change) -> tuple[int, str, str]:
    """What changes are sorted by; several of a customer at one instant stay in the order in which they came."""
    return change.at, change.customer, change.scheme
