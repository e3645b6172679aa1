"""The population of a partition: in which bucket of each measure every customer is counted, and when that may change.

Kept in memory beside the rows and built from them, so that it can never disagree with them: a crash between two records
of a batch leaves nothing to repair. A customer costs one entry a measure. Silent customers change by time alone: each
lies in the *bag* of the (UTC) day on which an order or interaction of theirs leaves the window, and bags are emptied at
a business day's end. Nothing here decides or writes.
"""

from collections.abc import Iterable, Iterator, Mapping

from models.contacts import Contacts
from models.customer import Customer, row_orders
from models.histogram import Histogram
from models.instants import DAY_MS
from models.ledger import Ledger
from models.metrics import Facts
from models.policy import Timeline
from models.ranking import UNRANKED, Measure, Span

#: An entry is one number, so that a million of them take little room: the bag above, the bucket in these bits.
_BITS = 13
_MASK = (1 << _BITS) - 1
#: The bag of those whom time alone does not change.
_NO_BAG = 1 << 22
_NO_WEIGHTS: Mapping[str, int] = {}
_NO_CONTACTS = Contacts()


class _Heads:
    """Everybody, as one measure sees them."""

    __slots__ = ("bags", "entries", "histogram", "measure")

    def __init__(self, measure: Measure) -> None:
        self.measure = measure
        self.histogram = Histogram()
        self.entries: dict[bytes, int] = {}
        self.bags: dict[int, list[bytes]] = {}

    def count(self, key: bytes, facts: Facts, at: int, *, emptied: bool = False) -> None:
        """Count a customer as they are at an instant (ms). `emptied`: they were just taken out of their bag."""
        bucket, changes = self.measure.look(facts, at)
        bag = _NO_BAG if changes is None else min(changes // DAY_MS, _NO_BAG)
        known = self.entries.get(key)
        if known is not None:
            before = known & _MASK
            if bucket != before:
                self._move(before, bucket)
            if not emptied and known >> _BITS <= bag:
                # They lie in an early bag already: there they are looked at, and put off.
                if bucket != before:
                    self.entries[key] = known - before + bucket
                return
        else:
            self._move(UNRANKED, bucket)
        if bucket == UNRANKED and bag == _NO_BAG:
            self.entries.pop(key, None)
            return
        self.entries[key] = (bag << _BITS) + bucket
        if bag != _NO_BAG:
            self.bags.setdefault(bag, []).append(key)

    def forget(self, key: bytes) -> None:
        """Count a customer no longer."""
        known = self.entries.pop(key, None)
        if known is not None:
            self._move(known & _MASK, UNRANKED)

    def empty_bags(self, until: int) -> Iterator[bytes]:
        """Yield who lies in the bags up to an instant (ms), each taken out of it."""
        last = until // DAY_MS
        for bag in sorted(bag for bag in self.bags if bag <= last):
            for key in self.bags.pop(bag):
                if self.entries.get(key, -1) >> _BITS == bag:
                    yield key

    def within(self, spans: Iterable[Span]) -> set[bytes]:
        """Return who is counted in some buckets."""
        found: set[bytes] = set()
        for low, high in spans:
            found.update(key for key, entry in self.entries.items() if low <= (entry & _MASK) <= high)
        return found

    def bagged(self, until: int, least: int) -> Iterator[bytes]:
        """Yield who lies in the bags up to an instant (ms), and is counted in a bucket from `least` on."""
        last = until // DAY_MS
        for bag in [bag for bag in self.bags if bag <= last]:
            yield from (key for key in self.bags[bag] if self.entries.get(key, 0) & _MASK >= least)

    def _move(self, before: int, after: int) -> None:
        if before != UNRANKED:
            self.histogram.remove(before)
        if after != UNRANKED:
            self.histogram.add(after)


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
        self._heads = {measure: _Heads(measure) for measure in measures}
        self._of_contacts = any(measure.of_contacts for measure in self._heads)
        self.closed = closed
        self.evaluated = False
        self.reported = False
        self.reranks: dict[bytes, bool] = {}
        for key, row in rows.items():
            if not key.startswith(b"\0"):
                cursor, ledger, contacts = self._read(row)
                if cursor is not None:
                    self.evaluated = True
                    self._count(key, ledger, contacts, cursor if closed is None else max(cursor, closed))

    @property
    def histograms(self) -> dict[str, Histogram]:
        """The counts by the labels of measures."""
        return {measure.label: heads.histogram for measure, heads in self._heads.items()}

    def count_all(self, touched: Mapping[bytes, Customer | None]) -> None:
        """Count customers as they are at their cursors, or at the last day's end if that is later; None: no longer."""
        for key, customer in touched.items():
            if customer is None:
                for heads in self._heads.values():
                    heads.forget(key)
            elif (at := customer.cursor) is not None:
                self.evaluated = True
                self._count(key, customer.ledger, customer.contacts, max(at, self.closed or at))

    def close(self, until: int, rows: Mapping[bytes, bytes]) -> None:
        """Count everybody as of an instant (ms): whom time alone has changed since is looked at."""
        self.closed = until
        taken: dict[bytes, list[_Heads]] = {}
        for heads in self._heads.values():
            for key in dict.fromkeys(heads.empty_bags(until)):
                taken.setdefault(key, []).append(heads)
        for key, places in taken.items():
            cursor, ledger, contacts = self._read(rows[key])
            at = until if cursor is None else max(cursor, until)
            facts = Facts(ledger, contacts, at, self._weights(at))
            for heads in places:
                heads.count(key, facts, at, emptied=True)

    def within(self, measure: Measure, spans: Iterable[Span]) -> set[bytes]:
        """Return the customers who are counted in some buckets of a measure."""
        return self._heads[measure].within(spans)

    def changing(self, measure: Measure, until: int, least: int) -> Iterator[bytes]:
        """Yield the customers in a bucket from `least` on whom time alone may change up to an instant (ms)."""
        return self._heads[measure].bagged(until, least)

    def _count(self, key: bytes, ledger: Ledger, contacts: Contacts, at: int) -> None:
        facts = Facts(ledger, contacts, at, self._weights(at))  # no measure reads the tenure
        for heads in self._heads.values():
            heads.count(key, facts, at)

    def _read(self, row: bytes) -> tuple[int | None, Ledger, Contacts]:
        """Return the cursor of a row, and what the measures look at."""
        if not self._of_contacts:
            return *row_orders(row), _NO_CONTACTS
        customer = Customer.from_row("", row)
        return customer.cursor, customer.ledger, customer.contacts

    def _weights(self, at: int) -> Mapping[str, int]:
        return self._timeline.at(at).weights if self._of_contacts else _NO_WEIGHTS
