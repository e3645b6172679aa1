"""Campaigns of a partition: announcements that wait for their instant, and the progress of the one under way.

An announcement is produced to every partition, so each addresses its own customers. Once stream time has passed its
instant and everything up to that is decided, the partition goes through its customers in the order of their keys, a
bounded number a step. The last key is part of the state. Plain data; the processor announces.
"""

from bisect import bisect_right, insort
from collections.abc import Iterable

import msgspec

from models.events import Campaign
from models.identity import id64

#: Announcements that may wait in a partition; a further one is refused.
MAX_WAITING = 100
#: The number of announcement ids that are remembered, to recognise one that is produced twice.
MAX_KNOWN = 100


class Announcements(msgspec.Struct):
    """Announcements in the order of their instants. `told` is the last key that the first one has gone through.

    `known` holds the ids of announcements that were added, the oldest first. The names of fields are stored.
    """

    waiting: list[Campaign] = []
    told: bytes | None = None
    known: list[int] = []

    def add(self, campaign: Campaign) -> str | None:
        """Keep an announcement until its instant; return None, or the name under which a refused one is counted."""
        identity = id64(campaign.campaign)
        if identity in self.known:
            return "duplicate"
        if len(self.waiting) >= MAX_WAITING:
            return "campaign_refused"
        self.known = [*self.known[1 - MAX_KNOWN :], identity]
        # The one that is under way stays first, even if an earlier one arrives late.
        insort(self.waiting, campaign, lo=self.told is not None, key=lambda other: (other.at, other.campaign))
        return None

    def next(self, horizon: int) -> Campaign | None:
        """Return the first announcement whose instant is at or before `horizon` (ms), or None."""
        return self.waiting[0] if self.waiting and self.waiting[0].at <= horizon else None

    def step(self, keys: list[bytes], size: int) -> list[bytes]:
        """Return the next keys, at most `size`, that the first announcement goes through.

        If none are left, it returns none and removes the announcement.
        """
        first = 0 if self.told is None else bisect_right(keys, self.told)
        step = keys[first : first + size]
        if step:
            self.told = step[-1]
        else:
            del self.waiting[0]
            self.told = None
        return step


def customer_keys(rows: Iterable[bytes]) -> list[bytes]:
    """Return the keys of customers, in order."""
    return sorted(key for key in rows if not key.startswith(b"\0"))
