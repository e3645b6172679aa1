"""The timers of a partition: which customers are due next, found without looking at the others.

A calendar queue (Brown, 1988): keys lie unsorted in slots of an hour, about ten bytes each; when the time of a slot has
come, it is sorted into a heap. Every key has an entry at or before the instant of its row. An instant that only moves
later, as with most orders, leaves the entry in place; it is put off when its slot is opened. Entries that an earlier
one has made superfluous are merged then, or swept when they outnumber the others. The index is rebuilt on recovery;
nothing is stored.
"""

from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush

from models.customer.state import NEVER
from models.instants import HOUR_MS, MIN_INSTANT

#: The width (ms) of a slot.
SLOT_MS = HOUR_MS
#: Superfluous entries that a small index may hold before it is swept.
_SLACK = 64


class TimerIndex:
    """Keys by instant (ms). A watermark with nothing due costs a comparison or two."""

    def __init__(self) -> None:
        self._near: list[tuple[int, bytes]] = []  # a heap of what lies before `_opened`
        self._far: dict[int, list[bytes]] = {}
        self._slots: list[int] = []  # a heap of the keys of `_far`
        self._opened = MIN_INSTANT
        self._entries = 0
        self._swept = 0

    def __len__(self) -> int:
        """Return the number of entries, which is close to the number of keys."""
        return self._entries

    def schedule(self, key: bytes, instant: int, known: int = NEVER) -> None:
        """Have a key come up at an instant (ms), or earlier; NEVER schedules nothing.

        `known` is the instant that it was scheduled for before; NEVER if there was none, or if the key was just taken.
        """
        if instant >= known:
            return
        self._entries += 1
        if instant < self._opened:
            heappush(self._near, (instant, key))
            return
        slot = instant // SLOT_MS
        keys = self._far.get(slot)
        if keys is None:
            self._far[slot] = [key]
            heappush(self._slots, slot)
        else:
            keys.append(key)

    def pop_due(self, horizon: int, instant_of: Callable[[bytes], int]) -> Iterator[bytes]:
        """Yield the keys that are due at or before `horizon` (ms), in the order of their instants.

        `instant_of(key)` is the instant of the key's state now (NEVER if it is gone). The caller schedules a key that
        it took again when its state has changed.
        """
        if self._entries > 2 * self._swept + _SLACK:
            self._sweep(instant_of)
        near, slots = self._near, self._slots
        while True:
            if slots and slots[0] * SLOT_MS <= horizon and (not near or near[0][0] >= slots[0] * SLOT_MS):
                self._open(heappop(slots), instant_of)
            elif near and near[0][0] <= horizon:
                instant, key = self._take()
                asked = instant_of(key)
                if asked == instant:
                    yield key
                elif asked > instant:
                    self.schedule(key, asked)
                # Otherwise an earlier entry has come up already.
            else:
                return

    def next_instant(self) -> int:
        """Return an instant (ms) before which no key is due; NEVER if there are no keys."""
        near = self._near[0][0] if self._near else NEVER
        return min(near, self._slots[0] * SLOT_MS) if self._slots else near

    def _take(self) -> tuple[int, bytes]:
        """Take the first key of the heap, with all its entries at that instant."""
        near = self._near
        first = heappop(near)
        self._entries -= 1
        while near and near[0] == first:
            heappop(near)
            self._entries -= 1
        return first

    def _open(self, slot: int, instant_of: Callable[[bytes], int]) -> None:
        """Sort a slot's keys into the heap; keys whose state is due in a later slot move there."""
        keys = self._far.pop(slot)
        self._opened = end = max(self._opened, (slot + 1) * SLOT_MS)
        self._entries -= len(keys)
        for key in dict.fromkeys(keys):
            asked = instant_of(key)
            if asked >= end:
                self.schedule(key, asked)
            elif asked >= slot * SLOT_MS:
                self._near.append((asked, key))
                self._entries += 1
        heapify(self._near)

    def _sweep(self, instant_of: Callable[[bytes], int]) -> None:
        """Keep one entry a key."""
        keys = dict.fromkeys(key for _, key in self._near)
        for each in self._far.values():
            keys |= dict.fromkeys(each)
        # In place: the caller is walking the heaps.
        self._near.clear()
        self._slots.clear()
        self._far, self._entries = {}, 0
        for key in keys:
            self.schedule(key, instant_of(key))
        self._swept = self._entries
