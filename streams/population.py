"""The population of a partition: in which bucket of each measure every customer is counted, and when that may change.

Kept in memory beside the rows and built from them, so that it can never disagree with them: a crash between two records
of a batch leaves nothing to repair. A customer costs one place a measure. Silent customers change by time alone: each
lies in the *bag* of the (UTC) day on which an order or interaction of theirs leaves the window, and bags are emptied at
a business day's end. Nothing here decides or writes.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from itertools import chain, repeat
from operator import and_

from models.contacts import Contacts
from models.customer import Customer, row_orders
from models.histogram import Histogram
from models.instants import DAY_MS
from models.ledger import Ledger
from models.metrics import Facts
from models.policy import Timeline
from models.ranking import BUCKET, BUCKET_BITS, NO_BAG, NOT_COUNTED, UNRANKED, Measure, Ranking, Span

_NO_WEIGHTS: Mapping[str, int] = {}
_NO_CONTACTS = Contacts()


class _Heads:
    """Everybody, as one measure sees them."""

    __slots__ = ("_came", "_left", "bags", "next", "places")

    def __init__(self) -> None:
        #: The places that customers are to be counted in next.
        self.next: list[int] = []
        self.places: dict[bytes, int] = {}
        self.bags: dict[int, list[bytes]] = {}
        # Who came into each bucket, and who left it: customers do at every event, and both are counted at C's speed.
        # What is in UNRANKED means nothing.
        self._came = Counter[int]()
        self._left = Counter[int]()

    @property
    def histogram(self) -> Histogram:
        """How many are counted in each bucket."""
        counts = ((bucket, came - self._left[bucket]) for bucket, came in self._came.items() if bucket != UNRANKED)
        return Histogram({bucket: count for bucket, count in sorted(counts) if count})

    def enter(self, keys: list[bytes]) -> None:
        """Count customers in their next places; each comes once.

        Whom an event puts into a later bag stays in the earlier one, too, and is passed over when it is emptied: that
        day has come, or an order was taken back.
        """
        places = self.next
        known = list(map(self.places.get, keys, repeat(NOT_COUNTED)))
        self._left.update(map(and_, known, repeat(BUCKET)))
        self._came.update(map(and_, places, repeat(BUCKET)))
        self.places.update(zip(keys, places, strict=True))
        for key, place, before in zip(keys, places, known, strict=True):
            if place == NOT_COUNTED:
                del self.places[key]
            elif place ^ before > BUCKET and (bag := place >> BUCKET_BITS) != NO_BAG:
                self.bags.setdefault(bag, []).append(key)
        places.clear()

    def empty_bags(self, until: int) -> Iterator[bytes]:
        """Yield who lies in the bags up to an instant (ms), each taken out of it."""
        last = until // DAY_MS
        for bag in sorted(bag for bag in self.bags if bag <= last):
            for key in self.bags.pop(bag):
                place = self.places.get(key, NOT_COUNTED)
                if place >> BUCKET_BITS == bag:
                    self.places[key] = (NO_BAG << BUCKET_BITS) + (place & BUCKET)
                    yield key

    def within(self, spans: Iterable[Span]) -> list[bytes]:
        """Return who is counted in some buckets."""
        wanted = {bucket for low, high in spans for bucket in range(low, high + 1)}
        return [key for key, place in self.places.items() if place & BUCKET in wanted] if wanted else []

    def bagged(self, until: int, least: int) -> Iterator[bytes]:
        """Yield who lies in the bags up to an instant (ms), and is counted in a bucket from `least` on."""
        last = until // DAY_MS
        for bag in sorted(bag for bag in self.bags if bag <= last):
            for key in self.bags[bag]:
                place = self.places.get(key, NOT_COUNTED)
                if place >> BUCKET_BITS == bag and place & BUCKET >= least:
                    yield key


class Population:
    """The customers of one partition, as every measure of a policy sees them.

    `closed` (ms): everybody is counted as of then at least; None before any day's end. `evaluated`: somebody was
    decided about. `reported`: it was told as of the next day's end, by this owner. `reranks` are those to be looked at
    because of new cut-offs: whether they are surely to be evaluated.
    """

    def __init__(
        self, timeline: Timeline, measures: Iterable[Measure], rows: Mapping[bytes, bytes], closed: int | None = None
    ) -> None:
        """Build from rows: all of them are decoded, once."""
        self._timeline = timeline
        self._heads = {measure: _Heads() for measure in measures}
        #: Who is to be counted next.
        self._keys: list[bytes] = []
        by_sums = {measure: heads for measure, heads in self._heads.items() if measure.of_sums}
        self._by_sums = [(heads.next, measure.looker()) for measure, heads in by_sums.items()]
        self._by_facts = [(heads.next, measure) for measure, heads in self._heads.items() if measure not in by_sums]
        self._of_contacts = any(measure.of_contacts for measure in self._heads)
        self.closed = closed
        self.evaluated = False
        self.reported = False
        self.reranks: dict[bytes, bool] = {}
        for key, row in rows.items():
            if not key.startswith(b"\0"):
                cursor, ledger, contacts = self._read(row)
                if cursor is not None:
                    self.look(key, ledger, contacts, cursor)
        self.enter()

    @property
    def histograms(self) -> dict[str, Histogram]:
        """The counts by the labels of measures."""
        return {measure.label: heads.histogram for measure, heads in self._heads.items()}

    def look(self, key: bytes, ledger: Ledger, contacts: Contacts, cursor: int) -> None:
        """Look at a customer as of their cursor (ms), or the last day's end if that is later.

        They are counted when `enter` is called. Each customer comes once in between.
        """
        self.evaluated = True
        at = cursor if self.closed is None or cursor > self.closed else self.closed
        times, paid = ledger.times, ledger.paid
        self._keys.append(key)
        for places, look in self._by_sums:
            places.append(look(times, paid, at))
        if self._by_facts:
            facts = Facts(ledger, contacts, at, self._weights(at))  # no measure reads the tenure
            for places, measure in self._by_facts:
                places.append(measure.look(facts, at))

    def forget(self, key: bytes) -> None:
        """Count a customer no longer, once `enter` is called."""
        self._keys.append(key)
        for heads in self._heads.values():
            heads.next.append(NOT_COUNTED)

    def enter(self) -> None:
        """Count whom was looked at."""
        for heads in self._heads.values():
            heads.enter(self._keys)
        self._keys.clear()

    def close(self, until: int, rows: Mapping[bytes, bytes]) -> None:
        """Count everybody as of an instant (ms): whom time alone has changed since is looked at."""
        self.closed = until
        emptied = [heads.empty_bags(until) for heads in self._heads.values()]
        for key in dict.fromkeys(chain.from_iterable(emptied)):
            cursor, ledger, contacts = self._read(rows[key])
            self.look(key, ledger, contacts, until if cursor is None else cursor)
        self.enter()

    def within(self, measure: Measure, spans: Iterable[Span]) -> list[bytes]:
        """Return the customers who are counted in some buckets of a measure."""
        return self._heads[measure].within(spans)

    def falling(
        self, ranking: Ranking, cuts: Iterable[Fraction | None], at: int, until: int, rows: Mapping[bytes, bytes]
    ) -> Iterator[tuple[bytes, bool]]:
        """Yield whom time alone carries over cut-offs (native unit) from `at` up to `until` (ms), earlier than known.

        And whether that is sure: of some measures only the whole row tells.
        """
        measure, cuts = ranking.measure, list(cuts)
        edges, sure = ranking.edges(cuts), measure.of_sums
        for key in self._heads[measure].bagged(until, ranking.falls_from(cuts)):
            if sure:
                cursor, due, ledger = row_orders(rows[key])
                falls = None if cursor is None or cursor >= at else measure.falls_at(ledger, at, edges)
                if falls is None or falls > until or falls >= due:
                    continue
            yield key, sure

    def _read(self, row: bytes) -> tuple[int | None, Ledger, Contacts]:
        """Return the cursor of a row, and what the measures look at."""
        if not self._by_facts:
            cursor, _, ledger = row_orders(row)
            return cursor, ledger, _NO_CONTACTS
        customer = Customer.from_row("", row)
        return customer.cursor, customer.ledger, customer.contacts

    def _weights(self, at: int) -> Mapping[str, int]:
        return self._timeline.at(at).weights if self._of_contacts else _NO_WEIGHTS
