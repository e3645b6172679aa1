"""The rank index of a partition: in which bucket of each measure every customer is counted, and when that may change.

It is kept in memory beside the rows and built from them, so that it cannot disagree with them: a crash between two
records of a batch leaves nothing to repair. A customer costs one place a measure. Silent customers change by time
alone: each lies in the *bag* of the (UTC) day on which an order or interaction of theirs leaves the window, and is
counted again when that day has come. Nothing here decides or writes.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from itertools import chain, repeat
from operator import and_

from models.customer.interactions import Interactions
from models.customer.ledger import Ledger
from models.customer.state import Customer, row_orders
from models.instants import DAY_MS, MIN_INSTANT
from models.policy.timeline import Timeline
from models.rules.metrics import Facts
from models.rules.ranking import BUCKET, BUCKET_BITS, NOT_COUNTED, UNRANKED, Measure, Ranking, Span
from models.rules.sketch import Sketch

_NO_WEIGHTS: Mapping[str, int] = {}


class _Heads(dict[bytes, int]):
    """The places of all customers by one measure.

    Its questions come once a day and go through all customers: that costs less than an index that every event of every
    customer updates.
    """

    @property
    def sketch(self) -> Sketch:
        """The number of customers in each bucket."""
        counts = Counter(map(and_, self.values(), repeat(BUCKET)))
        return Sketch({bucket: count for bucket, count in sorted(counts.items()) if bucket != UNRANKED})

    def bagged(self, until: int, least: int = 0) -> list[bytes]:
        """Return the customers in the bags up to an instant (ms) who are counted in bucket `least` or above."""
        beyond = until // DAY_MS + 1 << BUCKET_BITS
        return [key for key, place in self.items() if place < beyond and place & BUCKET >= least]

    def within(self, spans: Iterable[Span]) -> list[bytes]:
        """Return the customers who are counted in some buckets."""
        wanted = {bucket for low, high in spans for bucket in range(low, high + 1)}
        return [key for key, place in self.items() if place & BUCKET in wanted] if wanted else []


class RankIndex:
    """The customers of one partition, ranked by every measure of a policy.

    `closed` (ms): all are counted as of then at least. `evaluated`: some customer has been decided about. `reported`:
    this owner has reported the index as of the next day's end. `reranks` are the customers whom new cut-offs may move;
    the value says whether they must be evaluated in any case.
    """

    def __init__(
        self, timeline: Timeline, measures: Iterable[Measure], rows: Mapping[bytes, bytes], closed: int = MIN_INSTANT
    ) -> None:
        """Build the index from rows; all of them are decoded once."""
        self._timeline = timeline
        self._heads = {measure: _Heads() for measure in measures}
        self._by_sums = [measure.place_recorder(heads) for measure, heads in self._heads.items() if measure.of_sums]
        self._by_facts = [(heads, measure) for measure, heads in self._heads.items() if not measure.of_sums]
        self._of_contacts = any(measure.of_contacts for measure in self._heads)
        self.closed = closed
        self.evaluated = False
        self.reported = False
        self.reranks: dict[bytes, bool] = {}
        for key, row in rows.items():
            if not key.startswith(b"\0"):
                self._look_into(key, row)

    @property
    def sketches(self) -> dict[str, Sketch]:
        """The counts by the labels of measures."""
        return {measure.label: heads.sketch for measure, heads in self._heads.items()}

    def note(self, key: bytes, ledger: Ledger, interactions: Interactions, cursor: int) -> None:
        """Count a customer as of their cursor (ms), or the last day's end if that is later."""
        self.evaluated = True
        at = max(self.closed, cursor)
        for record_place in self._by_sums:
            record_place(key, ledger.times, ledger.paid, at)
        if self._by_facts:
            facts = Facts(ledger, interactions, at, self._weights(at))  # no measure reads the tenure
            for heads, measure in self._by_facts:
                if (place := measure.place(facts, at)) != NOT_COUNTED:
                    heads[key] = place
                else:
                    heads.pop(key, None)

    def _look_into(self, key: bytes, row: bytes) -> None:
        """Count the customer of a row, decoding no more of it than is needed."""
        if self._by_facts:
            customer = Customer.from_row("", row)
            if customer.cursor is not None:
                self.note(key, customer.ledger, customer.interactions, customer.cursor)
            return
        cursor, _, times, paid = row_orders(row)
        if cursor is not None:
            self.evaluated = True
            for record_place in self._by_sums:
                record_place(key, times, paid, max(cursor, self.closed))

    def forget(self, key: bytes) -> None:
        """Count a customer no longer."""
        for heads in self._heads.values():
            heads.pop(key, None)

    def close(self, until: int, rows: Mapping[bytes, bytes]) -> None:
        """Count all customers as of an instant (ms): those whom time alone may have changed are counted again."""
        if self.closed == until:
            return
        self.closed = until
        changed = [heads.bagged(until) for heads in self._heads.values()]
        for key in dict.fromkeys(chain.from_iterable(changed)):
            self._look_into(key, rows[key])

    def finish_day(self, end: int, rows: Mapping[bytes, bytes]) -> None:
        """Count all customers as of the last instant before a day's end (ms), to be reported."""
        self.close(end - 1, rows)
        self.reported = True

    def begin_day(self, start: int, rows: Mapping[bytes, bytes]) -> None:
        """Begin the day that starts at an instant (ms); it has not been reported."""
        self.reported = False
        self.close(start - 1, rows)

    def expect_reranks(self, customers: Iterable[tuple[bytes, bool]], *, ordered: bool) -> None:
        """Note customers whom new cut-offs may move, and whether they must be evaluated in any case.

        `ordered`: they are taken in the order of their keys, which is the same in every process.
        """
        for key, surely in customers:
            self.reranks[key] = surely or self.reranks.get(key, False)
        if ordered:
            self.reranks = dict(sorted(self.reranks.items(), reverse=True))

    def take_reranks(self, most: int) -> Iterator[tuple[bytes, bool]]:
        """Yield at most `most` of the customers to look at, which are then no longer noted."""
        for _ in range(min(len(self.reranks), most)):
            yield self.reranks.popitem()

    def within(self, measure: Measure, spans: Iterable[Span]) -> list[bytes]:
        """Return the customers who are counted in some buckets of a measure."""
        return self._heads[measure].within(spans)

    def falling(
        self, ranking: Ranking, cuts: Iterable[Fraction | None], at: int, until: int, rows: Mapping[bytes, bytes]
    ) -> Iterator[tuple[bytes, bool]]:
        """Yield customers whom time alone moves across cut-offs (native unit) from `at` up to `until` (ms).

        Only those are yielded who fall before their row says that they are due, each with whether that is certain: for
        some measures only the whole row shows it.
        """
        measure, cuts = ranking.measure, list(cuts)
        edges, sure = ranking.edges(cuts), measure.of_sums
        for key in self._heads[measure].bagged(until, ranking.falls_from(cuts)):
            if sure:
                cursor, due, times, paid = row_orders(rows[key])
                ledger = Ledger.of_sums(times, paid)
                falls = None if cursor is None or cursor >= at else measure.falls_at(ledger, at, edges)
                if falls is None or falls > until or falls >= due:
                    continue
            yield key, sure

    def _weights(self, at: int) -> Mapping[str, int]:
        return self._timeline.at(at).weights if self._of_contacts else _NO_WEIGHTS
