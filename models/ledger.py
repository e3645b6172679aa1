"""The ledger of one customer's orders: idempotent, and the same whatever order its events arrive in.

Counted orders stand in parallel arrays sorted by (instant, id), with *prefix sums* of what was paid,
so that the total of any window is two bisections and a subtraction (the classic cumulative-sum trick),
and an order in time costs an append. Orders touched by refunds or a cancellation have an `Adjustment`
beside the arrays; a void order lives only there. No tiers, no windows, no time of day here.
"""

from array import array
from bisect import bisect_left, bisect_right
from enum import Enum

import msgspec

from models.events import OrderCancelled, OrderPlaced, OrderRefunded

#: Beyond this many counted orders the oldest is folded away; beyond so many refunded or cancelled orders, and refunds
#: of one order, further ones are counted as expired (docs/contract.md, "Bounds").
MAX_ORDERS = 10_000
MAX_ADJUSTMENTS = 2_000
MAX_REFUNDS_OF_ORDER = 100


class Outcome(Enum):
    """What became of an event in the ledger."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"  # a duplicate id with other content: the first one wins
    EXPIRED = "expired"  # older than what the ledger still remembers one by one


class Adjustment(msgspec.Struct, array_like=True):
    """What is known of an order beyond the arrays. `at` None: the order itself has not arrived yet."""

    at: int | None = None
    amount: int = 0
    margin: int = 0
    cancelled: bool = False
    refunds: dict[int, int] = {}

    @property
    def net(self) -> int | None:
        """Minor units that count, None where the order is void (cancelled or refunded in full)."""
        refunded = sum(self.refunds.values())
        if self.cancelled or (self.refunds and refunded >= self.amount):
            return None
        return self.amount - refunded


class Ledger:
    """The counted orders of one customer, and how they came to be."""

    __slots__ = ("adjusted", "folded", "folded_to", "ids", "margins", "paid", "times")

    def __init__(self) -> None:
        self.times = array("q")
        self.ids = array("Q")
        self.paid = array("q")  # paid[i]: net minor units of orders 0..i
        self.margins = array("q")  # likewise; empty while no order has told a margin
        self.adjusted: dict[int, Adjustment] = {}
        self.folded = 0
        self.folded_to: int | None = None

    def check(self, event: OrderPlaced | OrderRefunded | OrderCancelled) -> Outcome:
        """Return what `apply` would answer, changing nothing."""
        if type(event) is OrderPlaced:
            return self._check_order(event)
        if type(event) is OrderRefunded:
            return self._check_refund(event)
        adjustment = self.adjusted.get(event.order)
        if adjustment is None:
            return self._check_room()
        return Outcome.DUPLICATE if adjustment.cancelled else Outcome.APPLIED

    def apply(self, event: OrderPlaced | OrderRefunded | OrderCancelled) -> None:
        """Enter an event that `check` found applicable."""
        if type(event) is OrderPlaced:
            self._place(event)
        else:
            self._adjust(event)
        while len(self.times) > MAX_ORDERS:
            self._fold_oldest()

    def net(self, index: int) -> int:
        """Return the minor units that the counted order at `index` counts for."""
        return self.paid[index] - (self.paid[index - 1] if index else 0)

    def margin(self, index: int) -> int:
        """Return the margin (minor units, may be negative) of the counted order at `index`; 0 where untold."""
        if not self.margins:
            return 0
        return self.margins[index] - (self.margins[index - 1] if index else 0)

    def _check_order(self, event: OrderPlaced) -> Outcome:
        adjustment = self.adjusted.get(event.order)
        if adjustment is not None:
            if adjustment.at is None:
                return Outcome.APPLIED
            known = (adjustment.at, adjustment.amount, adjustment.margin)
        elif event.order in self.ids:
            index = self.ids.index(event.order)
            known = (self.times[index], self.net(index), self.margin(index))
        elif self.folded_to is not None and event.at <= self.folded_to:
            return Outcome.EXPIRED
        else:
            return Outcome.APPLIED
        return Outcome.DUPLICATE if known == (event.at, event.amount, event.margin or 0) else Outcome.CONFLICT

    def _check_refund(self, event: OrderRefunded) -> Outcome:
        for order, adjustment in self.adjusted.items():
            amount = adjustment.refunds.get(event.refund)
            if amount is not None:
                same = order == event.order and amount == event.amount
                return Outcome.DUPLICATE if same else Outcome.CONFLICT
        known = self.adjusted.get(event.order)
        if known is None:
            return self._check_room()
        full = len(known.refunds) >= MAX_REFUNDS_OF_ORDER
        return Outcome.EXPIRED if full else Outcome.APPLIED

    def _check_room(self) -> Outcome:
        """An adjustment is never forgotten, or its repetition would count again; so there is an end to them."""
        return Outcome.EXPIRED if len(self.adjusted) >= MAX_ADJUSTMENTS else Outcome.APPLIED

    def _place(self, event: OrderPlaced) -> None:
        adjustment = self.adjusted.get(event.order)
        if adjustment is None:
            self._insert(event.at, event.order, event.amount, event.margin or 0)
            return
        adjustment.at, adjustment.amount, adjustment.margin = event.at, event.amount, event.margin or 0
        if (net := adjustment.net) is not None:
            self._insert(event.at, event.order, net, adjustment.margin)

    def _adjust(self, event: OrderRefunded | OrderCancelled) -> None:
        adjustment = self.adjusted.get(event.order) or self._begin_adjustment(event.order)
        at, counted = adjustment.at, adjustment.at is not None and adjustment.net is not None
        if counted:
            self._remove(self.ids.index(event.order))
        if type(event) is OrderRefunded:
            adjustment.refunds[event.refund] = event.amount
        else:
            adjustment.cancelled = True
        if at is not None and counted and (net := adjustment.net) is not None:
            self._insert(at, event.order, net, adjustment.margin)

    def _begin_adjustment(self, order: int) -> Adjustment:
        adjustment = Adjustment(refunds={})
        if order in self.ids:
            index = self.ids.index(order)
            adjustment.at, adjustment.amount, adjustment.margin = self.times[index], self.net(index), self.margin(index)
        self.adjusted[order] = adjustment
        return adjustment

    def _insert(self, at: int, order: int, net: int, margin: int) -> None:
        times = self.times
        if margin and not self.margins:
            self.margins = array("q", bytes(8 * len(times)))
        if not times or at > times[-1]:
            index = len(times)
        else:
            index = bisect_left(self.ids, order, bisect_left(times, at), bisect_right(times, at))
        times.insert(index, at)
        self.ids.insert(index, order)
        _insert_sum(self.paid, index, net)
        if self.margins or margin:
            _insert_sum(self.margins, index, margin)

    def _remove(self, index: int) -> None:
        _remove_sum(self.paid, index, self.net(index))
        if self.margins:
            _remove_sum(self.margins, index, self.margin(index))
        del self.times[index], self.ids[index]

    def _fold_oldest(self) -> None:
        # The oldest may be older than what is folded: a refund remembered its id, then it came once more.
        self.folded_to = self.times[0] if self.folded_to is None else max(self.folded_to, self.times[0])
        self.adjusted.pop(self.ids[0], None)
        self._remove(0)
        self.folded += 1


def _insert_sum(sums: "array[int]", index: int, value: int) -> None:
    sums.insert(index, (sums[index - 1] if index else 0) + value)
    if value:
        for later in range(index + 1, len(sums)):
            sums[later] += value


def _remove_sum(sums: "array[int]", index: int, value: int) -> None:
    del sums[index]
    if value:
        for later in range(index, len(sums)):
            sums[later] -= value
