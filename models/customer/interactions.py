"""The interactions of one customer that can still matter to a metric: idempotent, sorted by (instant, id).

Only kinds that some metric reads are kept, and only while some window reaches back to them. Weights and windows belong
to the policy and are arguments.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping

from models.customer.ledger import NO_IDS, NO_TIMES, Outcome
from models.events import Interaction

#: Beyond this many kept interactions the oldest is forgotten (docs/contract.md, "Bounds").
MAX_INTERACTIONS = 4_000


class Interactions:
    """Parallel lists of kept interactions. `times` are in ms; `values` are thousandths, None if there is none."""

    __slots__ = ("ids", "kinds", "times", "values")

    def __init__(
        self,
        times: bytes = b"",
        ids: bytes = b"",
        kinds: list[str] | None = None,
        values: list[int | None] | None = None,
    ) -> None:
        """Start empty, or from the bytes of the arrays (64-bit numbers in the machine's byte order) and the lists."""
        self.times = NO_TIMES[:]
        self.ids = NO_IDS[:]
        if times:
            self.times.frombytes(times)
            self.ids.frombytes(ids)
        self.kinds: list[str] = [] if kinds is None else kinds
        self.values: list[int | None] = [] if values is None else values

    def check(self, event: Interaction) -> Outcome:
        """Return what the event would come to, without applying it."""
        if event.interaction not in self.ids:
            return Outcome.APPLIED
        index = self.ids.index(event.interaction)
        known = (self.times[index], self.kinds[index], self.values[index])
        return Outcome.DUPLICATE if known == (event.at, event.kind, event.value) else Outcome.CONFLICT

    def apply(self, event: Interaction) -> None:
        """Add an interaction for which `check` returned APPLIED."""
        low, high = bisect_left(self.times, event.at), bisect_right(self.times, event.at)
        index = bisect_left(self.ids, event.interaction, low, high)
        self.times.insert(index, event.at)
        self.ids.insert(index, event.interaction)
        self.kinds.insert(index, event.kind)
        self.values.insert(index, event.value)
        if len(self.times) > MAX_INTERACTIONS:
            self._drop(1)

    def forget_until(self, instant: int) -> None:
        """Drop interactions at or before an instant (ms), which no window reaches any more."""
        self._drop(bisect_right(self.times, instant))

    def weight(self, since: int, weights: Mapping[str, int]) -> int:
        """Return the sum of weights (thousandths) of interactions after `since` (ms)."""
        return sum(weights.get(kind, 0) for kind in self.kinds[bisect_right(self.times, since) :])

    def count(self, since: int, kind: str) -> int:
        """Return how many interactions of a kind came after `since` (ms)."""
        return self.kinds[bisect_right(self.times, since) :].count(kind)

    def scores(self, since: int) -> tuple[int, int]:
        """Return (sum in thousandths, number) of survey scores after `since` (ms)."""
        first = bisect_right(self.times, since)
        pairs = zip(self.kinds[first:], self.values[first:], strict=True)
        values = [value for kind, value in pairs if kind == "survey" and value is not None]
        return sum(values), len(values)

    def _drop(self, count: int) -> None:
        if count:
            del self.times[:count], self.ids[:count], self.kinds[:count], self.values[:count]
