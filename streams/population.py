"""The population of a partition: in which bucket of each measure every customer is counted, and when that may change.

Kept in memory beside the rows and built from them, so that it can never disagree with them: a crash between two records
of a batch leaves nothing to repair. A customer costs one entry a measure. Silent customers change by time alone: each
lies in the *bag* of the (UTC) day on which an order or interaction of theirs leaves the window, and bags are emptied at
a business day's end. Nothing here decides or writes.
"""

from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction

from models.contacts import Contacts
from models.customer import Customer, row_orders
from models.histogram import Histogram
from models.instants import DAY_MS, MIN_INSTANT
from models.ledger import Ledger
from models.metrics import Facts
from models.policy import Timeline
from models.ranking import UNRANKED, Measure, Ranking, Span

#: An entry is one number, so that a million of them take little room: the bag above, the bucket in these bits.
_BITS = 13
_MASK = (1 << _BITS) - 1
#: The bag of those whom time alone does not change.
_NO_BAG = 1 << 22
#: The entry of those who are in no bucket and no bag; there is none of them.
_NOT_COUNTED = (_NO_BAG << _BITS) + UNRANKED
_NO_WEIGHTS: Mapping[str, int] = {}
_NO_CONTACTS = Contacts()


class _Heads:
    """Everybody, as one measure sees them."""

    __slots__ = ("_counts", "bags", "entries", "measure")

    def __init__(self, measure: Measure) -> None:
        self.measure = measure
        self.entries: dict[bytes, int] = {}
        self.bags: dict[int, list[bytes]] = {}
        # As long as there are buckets: counting is done at every event. What is in UNRANKED means nothing.
        self._counts = [0] * (UNRANKED + 1)

    @property
    def histogram(self) -> Histogram:
        """How many are counted in each bucket."""
        return Histogram({bucket: count for bucket, count in enumerate(self._counts[:UNRANKED]) if count})

    def count(self, key: bytes, bucket: int, changes: int | None, *, emptied: bool = False) -> None:
        """Count a customer in a bucket; `changes` (ms) says when time alone may change that, None: never.

        `emptied`: they were just taken out of their bag. Whom an event puts into a later bag stays in the earlier one,
        too, and is passed over when it is emptied: that day has come, or an order was taken back.
        """
        bag = _NO_BAG if changes is None else min(changes // DAY_MS, _NO_BAG)
        entry, known = (bag << _BITS) + bucket, self.entries.get(key, _NOT_COUNTED)
        if entry != known:
            self._counts[known & _MASK] -= 1
            self._counts[bucket] += 1
            if entry == _NOT_COUNTED:
                del self.entries[key]
            else:
                self.entries[key] = entry
        elif not emptied:
            return
        if bag != _NO_BAG and (emptied or bag != known >> _BITS):
            self.bags.setdefault(bag, []).append(key)

    def count_sums(self, touched: Mapping[bytes, Customer | None], closed: int) -> None:
        """Count customers as `measure.look_at_sums` finds them at their cursors, or at `closed` (ms) if that is later.

        Most are in another bucket of the same bag by now.
        """
        look, entries, counts = self.measure.look_at_sums, self.entries, self._counts
        for key, customer in touched.items():
            if customer is None or (at := customer.cursor) is None:
                continue
            bucket, changes = look(customer.ledger, max(at, closed))
            known = entries.get(key, _NOT_COUNTED)
            if changes is not None and changes // DAY_MS == known >> _BITS and bucket != UNRANKED:
                counts[known & _MASK] -= 1
                counts[bucket] += 1
                entries[key] = (known & ~_MASK) + bucket
            else:
                self.count(key, bucket, changes)

    def forget(self, key: bytes) -> None:
        """Count a customer no longer."""
        self._counts[self.entries.pop(key, _NOT_COUNTED) & _MASK] -= 1

    def empty_bags(self, until: int) -> Iterator[bytes]:
        """Yield who lies in the bags up to an instant (ms), each taken out of it."""
        last = until // DAY_MS
        for bag in sorted(bag for bag in self.bags if bag <= last):
            for key in self.bags.pop(bag):
                if self.entries.get(key, -1) >> _BITS == bag:
                    yield key

    def within(self, spans: Iterable[Span]) -> list[bytes]:
        """Return who is counted in some buckets."""
        wanted = {bucket for low, high in spans for bucket in range(low, high + 1)}
        return [key for key, entry in self.entries.items() if entry & _MASK in wanted] if wanted else []

    def bagged(self, until: int, least: int) -> Iterator[bytes]:
        """Yield who lies in the bags up to an instant (ms), and is counted in a bucket from `least` on."""
        last = until // DAY_MS
        for bag in sorted(bag for bag in self.bags if bag <= last):
            for key in self.bags[bag]:
                entry = self.entries.get(key, -1)
                if entry >> _BITS == bag and entry & _MASK >= least:
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
        self._heads = {measure: _Heads(measure) for measure in measures}
        self._of_contacts = any(measure.of_contacts for measure in self._heads)
        self._of_sums = all(measure.of_sums for measure in self._heads)
        self.closed = closed
        self.evaluated = False
        self.reported = False
        self.reranks: dict[bytes, bool] = {}
        for key, row in rows.items():
            if not key.startswith(b"\0"):
                cursor, ledger, contacts = self._read(row)
                if cursor is not None:
                    self.evaluated = True
                    at = cursor if closed is None else max(cursor, closed)
                    self._count(key, ledger, contacts, at, self._heads.values())

    @property
    def histograms(self) -> dict[str, Histogram]:
        """The counts by the labels of measures."""
        return {measure.label: heads.histogram for measure, heads in self._heads.items()}

    def count_all(self, touched: Mapping[bytes, Customer | None]) -> None:
        """Count customers as they are at their cursors, or at the last day's end if that is later; None: no longer."""
        closed, places = MIN_INSTANT if self.closed is None else self.closed, self._heads.values()
        for key, customer in touched.items():
            if customer is None:
                for heads in places:
                    heads.forget(key)
            elif (at := customer.cursor) is not None:
                self.evaluated = True
                if not self._of_sums:
                    self._count(key, customer.ledger, customer.contacts, max(at, closed), places)
        if self._of_sums:
            for heads in places:
                heads.count_sums(touched, closed)

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
            self._count(key, ledger, contacts, at, places, emptied=True)

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

    def _count(
        self,
        key: bytes,
        ledger: Ledger,
        contacts: Contacts,
        at: int,
        places: Iterable[_Heads],
        *,
        emptied: bool = False,
    ) -> None:
        if self._of_sums:
            for heads in places:
                heads.count(key, *heads.measure.look_at_sums(ledger, at), emptied=emptied)
            return
        facts = Facts(ledger, contacts, at, self._weights(at))  # no measure reads the tenure
        for heads in places:
            heads.count(key, *heads.measure.look(facts, at), emptied=emptied)

    def _read(self, row: bytes) -> tuple[int | None, Ledger, Contacts]:
        """Return the cursor of a row, and what the measures look at."""
        if self._of_sums:
            cursor, _, ledger = row_orders(row)
            return cursor, ledger, _NO_CONTACTS
        customer = Customer.from_row("", row)
        return customer.cursor, customer.ledger, customer.contacts

    def _weights(self, at: int) -> Mapping[str, int]:
        return self._timeline.at(at).weights if self._of_contacts else _NO_WEIGHTS
