"""The due index of a partition: which customers want attention next, without looking at the others.

A binary heap with lazy rescheduling: each customer has one live entry, at or before the instant that its row
asks for. What is popped early is scheduled again. Entries that an earlier one has overtaken stay until their instant
comes, or until they outnumber the live ones. Rebuilt on recovery; nothing is stored.
"""

from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush

from models.customer import NEVER

#: Overtaken entries that a small index may hold before it is swept.
_SLACK = 64


class DueIndex:
    """Keys by instant (ms). A tick with nothing due costs one comparison."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, bytes]] = []
        self._scheduled: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._scheduled)

    def schedule(self, key: bytes, instant: int) -> None:
        """Have a key come up at an instant (ms), or earlier where it already does; NEVER schedules nothing."""
        if instant == NEVER:
            return
        known = self._scheduled.get(key)
        if known is None or instant < known:
            self._scheduled[key] = instant
            heappush(self._heap, (instant, key))
            if len(self._heap) > 2 * len(self._scheduled) + _SLACK:
                # In place: `pop_due` may be under way.
                self._heap[:] = [(live, each) for each, live in self._scheduled.items()]
                heapify(self._heap)

    def pop_due(self, horizon: int, instant_of: Callable[[bytes], int]) -> Iterator[bytes]:
        """Yield the keys that are due at or before `horizon` (ms).

        `instant_of(key)` says what the key's state asks for now (NEVER where it is gone). Whoever takes a key
        schedules it again once its state has moved on.
        """
        heap, scheduled = self._heap, self._scheduled
        while heap and heap[0][0] <= horizon:
            instant, key = heappop(heap)
            if scheduled.get(key) != instant:
                continue  # overtaken by an earlier entry of the same key
            del scheduled[key]
            asked = instant_of(key)
            if asked <= horizon:
                yield key
            else:
                self.schedule(key, asked)

    def next_instant(self) -> int:
        """Return the earliest instant (ms) at which some key may be due; NEVER where there is none."""
        return self._heap[0][0] if self._heap else NEVER
