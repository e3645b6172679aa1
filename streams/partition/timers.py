"""The due index of a partition: which customers want attention next, without looking at the others.

A calendar queue (Brown, 1988): keys lie unsorted in slots of an hour, some ten bytes each; the slot whose time has come
is sorted into a heap. Every key has an entry at or before the instant that its row asks for: what only moves later, as
most customers do with every order, is left where it is and put off when its slot is opened. Entries that an earlier
one has overtaken are merged there, or swept up when they outnumber the others. Rebuilt on recovery; nothing is stored.
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
    """Keys by instant (ms). A tick with nothing due costs a comparison or two."""

    def __init__(self) -> None:
        self._near: list[tuple[int, bytes]] = []  # a heap of what lies before `_opened`
        self._far: dict[int, list[bytes]] = {}
        self._slots: list[int] = []  # a heap of the keys of `_far`
        self._opened = MIN_INSTANT
        self._entries = 0
        self._swept = 0

    def __len__(self) -> int:
        """Return the number of entries: about as many as keys."""
        return self._entries

    def schedule(self, key: bytes, instant: int, known: int = NEVER) -> None:
        """Have a key come up at an instant (ms), or earlier; NEVER schedules nothing.

        `known` is the instant that it was to come up at before, NEVER where there was none or where it was just taken.
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

        `instant_of(key)` says what the key's state asks for now (NEVER where it is gone). Whoever takes a key
        schedules it again once its state has moved on.
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
                # Else an earlier entry has come up already.
            else:
                return

    def next_instant(self) -> int:
        """Return an instant (ms) before which no key is due; NEVER where there is none."""
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
        """Sort a slot's keys into the heap; those whose state asks for a later one go there."""
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
        """Leave one entry a key."""
        keys = dict.fromkeys(key for _, key in self._near)
        for each in self._far.values():
            keys |= dict.fromkeys(each)
        # In place: the heaps are being walked by whoever asked.
        self._near.clear()
        self._slots.clear()
        self._far, self._entries = {}, 0
        for key in keys:
            self.schedule(key, instant_of(key))
        self._swept = self._entries
