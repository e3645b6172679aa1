"""The population of a partition: in which bucket of each measure every customer is counted, and when that may change.

Kept in memory beside the rows and built from them, so that it can never disagree with them: a crash between two records
of a batch leaves nothing to repair. A customer costs one place a measure. Silent customers change by time alone: each
lies in the *bag* of the (UTC) day on which an order or interaction of theirs leaves the window, and who lies in a bag is
looked at once that day has come. Nothing here decides or writes.
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
from models.ranking import BUCKET, BUCKET_BITS, NOT_COUNTED, UNRANKED, Measure, Ranking, Span

_NO_WEIGHTS: Mapping[str, int] = {}
_NO_CONTACTS = Contacts()


class _Heads(dict[bytes, int]):
    """Everybody's place, as one measure sees them.

    Whatever is asked of all is asked once a day, and goes through all: that costs less than to keep it up to date at
    every event of every customer.
    """

    @property
    def histogram(self) -> Histogram:
        """How many are counted in each bucket."""
        counts = Counter(map(and_, self.values(), repeat(BUCKET)))
        return Histogram({bucket: count for bucket, count in sorted(counts.items()) if bucket != UNRANKED})

    def bagged(self, until: int, least: int = 0) -> list[bytes]:
        """Return who lies in the bags up to an instant (ms), and is counted in a bucket from `least` on."""
        beyond = until // DAY_MS + 1 << BUCKET_BITS
        return [key for key, place in self.items() if place < beyond and place & BUCKET >= least]

    def within(self, spans: Iterable[Span]) -> list[bytes]:
        """Return who is counted in some buckets."""
        wanted = {bucket for low, high in spans for bucket in range(low, high + 1)}
        return [key for key, place in self.items() if place & BUCKET in wanted] if wanted else []


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
        self._by_sums = [(heads, measure.looker()) for measure, heads in self._heads.items() if measure.of_sums]
        self._by_facts = [(heads, measure) for measure, heads in self._heads.items() if not measure.of_sums]
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

    @property
    def histograms(self) -> dict[str, Histogram]:
        """The counts by the labels of measures."""
        return {measure.label: heads.histogram for measure, heads in self._heads.items()}

    def look(self, key: bytes, ledger: Ledger, contacts: Contacts, cursor: int) -> None:
        """Count a customer as of their cursor (ms), or the last day's end if that is later."""
        self.evaluated = True
        at = cursor if self.closed is None or cursor > self.closed else self.closed
        for heads, look in self._by_sums:
            _put(heads, key, look(ledger.times, ledger.paid, at))
        if self._by_facts:
            facts = Facts(ledger, contacts, at, self._weights(at))  # no measure reads the tenure
            for heads, measure in self._by_facts:
                _put(heads, key, measure.look(facts, at))

    def forget(self, key: bytes) -> None:
        """Count a customer no longer."""
        for heads in self._heads.values():
            heads.pop(key, None)

    def close(self, until: int, rows: Mapping[bytes, bytes]) -> None:
        """Count everybody as of an instant (ms): whom time alone has changed since is looked at."""
        if self.closed == until:
            return
        self.closed = until
        changed = [heads.bagged(until) for heads in self._heads.values()]
        for key in dict.fromkeys(chain.from_iterable(changed)):
            cursor, ledger, contacts = self._read(rows[key])
            self.look(key, ledger, contacts, until if cursor is None else cursor)

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


def _put(heads: _Heads, key: bytes, place: int) -> None:
    if place == NOT_COUNTED:
        heads.pop(key, None)
    else:
        heads[key] = place
