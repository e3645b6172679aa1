"""An oracle: tier histories by brute force, sharing no code with what it checks.

It reads a policy as YAML and events as JSON, and imports nothing of tidemark. Nothing here is compiled, indexed or
kept as a running total: it looks at a customer at every instant at which anything could change, and reads every metric
off the plain list of their orders each time. The definitions, in plain words:

*Time.* Whole milliseconds since 1970. A day is 24 hours. Events are taken one after another by instant; at one instant
profiles come before orders, refunds and cancellations, and those before interactions. Cancellations come before
orders, orders before refunds, and of one type the lesser hash of the id comes first; after that the file decides.
The customer is evaluated after each event and at every other instant listed below.

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
recency by rhythm, which is taken as at least a day. If there is nothing to divide by, or no order yet, a metric is
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
Then they get the tier that they qualify for, or with `step: one` the next lower one. If they are below that too,
everything starts again at that instant. With `clawback`, who qualified for their tier until a refund or cancellation,
and does not after it, gets the tier that they qualify for at once.

*Instants looked at:* every event; each event's instant plus the window or half window, a millisecond before and after;
every order, and the registration, plus each number of days that the scheme names, and a millisecond after; if
`overdue` matters, the instants at which it reaches or passes its thresholds; the ends of grace, minimum stay and
kept period; and, so that a kind of instant missing from this list would be found out too, every week.
"""

import heapq
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import date, datetime, timedelta
from functools import cache
from hashlib import blake2b
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from tests.oracle.kinds import DAY, EPOCH, KINDS, MS, Event, Known, Look, duration, instant, native, rhythm

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
    """A customer's position: the held tier, since when, and since when they are below it."""

    def __init__(self, demotion: dict[str, Any], zone: ZoneInfo) -> None:
        self.grace = duration(demotion.get("grace", "0d"))
        self.min_stay = duration(demotion.get("min_stay", "0d"))
        self.one = demotion.get("step") == "one"
        self.keep = demotion.get("keep")
        self.clawback = demotion.get("clawback", False)
        self.zone = zone
        self.rank: int | None = None
        self.since = 0
        self.below: int | None = None

    def look(self, qualified: int, now: int, registered: int, cause: str) -> Iterator[tuple[int | None, int]]:
        """Yield each move (from, to) that happens now."""
        while True:
            before = self.rank
            if before is None or qualified > before:
                self._hold(qualified, now)
            elif qualified == before:
                self.below = None
            elif self.clawback and cause == "refund" and self.below is None:
                self._hold(qualified, now)
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
        kept = kept_until(self.keep, self.below - 1, registered, self.zone) if self.keep else 0
        return max(self.below + self.grace, self.since + self.min_stay, kept)


@cache
def kept_until(period: str, qualified: int, registered: int, zone: ZoneInfo) -> int:
    """The end of the period that follows the one of the instant at which a customer was last qualified."""
    if period == "calendar_year":
        return midnight(date(day_of(qualified, zone).year + 2, 1, 1), zone)
    # Count whole years from the registration until one begins after the instant; then one more.
    start, years = day_of(registered, zone), 0
    while midnight(anniversary(start, years), zone) <= qualified:
        years += 1
    return midnight(anniversary(start, years + 1), zone)


def day_of(at: int, zone: ZoneInfo) -> date:
    return (EPOCH + timedelta(milliseconds=at)).astimezone(zone).date()


def month_start(year: int, month: int, zone: ZoneInfo) -> int:
    """The instant at which a month begins; months after the twelfth are those of later years."""
    return midnight(date(year + (month - 1) // 12, (month - 1) % 12 + 1, 1), zone)


def looks_back(written: str, now: int, zone: ZoneInfo) -> int:
    """How far a window of the calendar looks back: to the start of its first month."""
    day = day_of(now, zone)
    if written == "calendar_year":
        first = month_start(day.year, 1, zone)
    else:
        first = month_start(day.year - 10, 120 + day.month - int(written.split(maxsplit=1)[0]) + 1, zone)
    return now - first + 1


def midnight(day: date, zone: ZoneInfo) -> int:
    return instant(datetime(day.year, day.month, day.day, tzinfo=zone).isoformat())


def anniversary(start: date, years: int) -> date:
    """The same day some years later; 29 February counts as the 28th for all its anniversaries."""
    leap_day = (start.month, start.day) == (2, 29)
    return date(start.year + years, start.month, 28 if leap_day else start.day)


def candidates(events: list[tuple[int, Event]], scheme: dict[str, Any], window: int, until: int) -> set[int]:
    """Every instant that is known in advance to need an evaluation."""
    starts = {at for at, _ in events}
    leaves = {window, window // 2, window // 2 * 2} if "growth" in str(scheme) else {window}
    silences = named_days(scheme, "recency_days", "first_order_days")
    lengths = {leave + off for leave in leaves for off in (-1, 0, 1)} | {
        days + off for days in silences for off in (0, 1)
    }
    registered = {instant(event["registered_at"]) for _, event in events if event.get("registered_at")}
    tenures = {days + off for days in named_days(scheme, "tenure_days") for off in (0, 1)}
    looks = {start + length for start in starts for length in lengths}
    looks |= {start + length for start in registered | {min(starts)} for length in tenures}
    return starts | looks | set(range(min(starts), until, MS["w"]))


def history(customer: str, name: str, policy: dict[str, Any], events: list[Event], until: int) -> list[Change]:
    """Every tier change of one customer in one scheme, by looking at every instant."""
    scheme = policy["schemes"][name]
    names, qualify = KINDS[scheme.get("kind", "thresholds")](scheme)
    written, zone = scheme.get("window", policy.get("window", "365d")), _zone(policy)
    calendar = "month" in written or "calendar" in written
    window = 0 if calendar else duration(written)
    overdue = [native(metric, number) for metric, number in _named(scheme) if metric == "overdue"]
    dated = [(_when(event), event) for event in events]
    waiting = list(candidates(dated, scheme, window, until))
    waiting += _months(min(at for at, _ in dated), until, zone) if calendar else []
    heapq.heapify(waiting)
    by_instant: dict[int, list[Event]] = defaultdict(list)
    for at, event in dated:
        by_instant[at].append(event)
    known, ladder = Known(policy.get("weights", {})), Ladder(scheme.get("demotion", {}), _zone(policy))
    changes: list[Change] = []
    last, fall = None, None
    while waiting and waiting[0] <= until:
        now = heapq.heappop(waiting)
        if now == last or (last is None and now not in by_instant):
            continue
        last = now
        for event in by_instant.get(now, [None]):
            if event is not None:
                known.add(now, event)
            cause = "time" if event is None else CAUSES.get(event.get("type"), "profile")
            qualified = qualify(Look(known, now, looks_back(written, now, zone) if calendar else window))
            for before, after in ladder.look(qualified, now, known.since, cause):
                left = None if before is None else names[before]
                changes.append(Change(now, customer, name, left, names[after], cause))
        more = [] if ladder.below is None else [ladder.fall(known.since)]
        more, fall = [later for later in more if later != fall], max(more, default=None)
        if overdue and now in by_instant and (usual := rhythm(known)) is not None:
            more += [known.orders[-1][0] + ceil(ratio * max(usual, DAY)) + off for ratio in overdue for off in (0, 1)]
        for later in more:
            if later > now:
                heapq.heappush(waiting, later)
    return changes


def _months(first: int, until: int, zone: ZoneInfo) -> list[int]:
    """The starts of all months after an instant, and a millisecond before them."""
    numbers = range(first // MS["d"] // 31, until // MS["d"] // 28 + 1)
    starts = [month_start(1970, 1 + number, zone) for number in numbers]
    return [start + off for start in starts for off in (-1, 0) if start > first]


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
    return {customer: sorted(listed, key=_order) for customer, listed in events.items()}


def _order(event: Event) -> tuple[int, int, int]:
    """The sort key of an event. Sorting is stable: beyond it, the order of the files and their lines stays."""
    kind = event.get("type", "profile")
    place = ["profile", "order.cancelled", "order.placed", "order.refunded", "interaction"].index(kind)
    named = {"order.refunded": "refund_id", "interaction": "interaction_id"}.get(kind, "order_id")
    digest = blake2b(event.get(named, "").encode(), digest_size=8).digest()
    return _when(event), place, int.from_bytes(digest, "little")


def all_changes(policy: dict[str, Any], events: dict[str, list[Event]], until: int) -> list[Change]:
    """Every tier change of every customer in every scheme, sorted."""
    changes = [
        change
        for name in policy["schemes"]
        for customer, own in events.items()
        for change in history(customer, name, policy, own, until)
    ]
    return sorted(changes, key=_place)


def replayed_changes(file: Path) -> list[Change]:
    """The tier changes that a replay wrote, in the oracle's form, sorted."""
    changes = [
        Change(
            instant(line["effective_at"]), line["customer_id"], line["scheme"], line["from"], line["to"], line["cause"]
        )
        for line in map(json.loads, file.read_text().splitlines())
    ]
    return sorted(changes, key=_place)


def _place(change: Change) -> tuple[int, str, str]:
    """The sort key of changes; several of a customer at one instant keep their order."""
    return change.at, change.customer, change.scheme
