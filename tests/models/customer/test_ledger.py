import json
from array import array
from fractions import Fraction
from itertools import permutations
from typing import Any

import pytest

from models.customer import ledger as module
from models.customer.ledger import Ledger, Outcome
from models.events import OrderCancelled, OrderPlaced, OrderRefunded, Topic
from models.identity import id64
from models.money import Money
from models.wire import Wire
from tests.models.build import cancel, ledger, order, refund

Entry = OrderPlaced | OrderRefunded | OrderCancelled


def totals(sums: "array[int]") -> list[int]:
    """Return the net amounts of the counted orders, in order."""
    return [each - sums[0] for each in sums[1:]]


def state(book: Ledger) -> dict[str, Any]:
    """Return a ledger's content in a comparable form."""
    return {
        "times": list(book.times),
        "ids": list(book.ids),
        "net": [book.net(index) for index in range(len(book.times))],
        "margins": [book.margin(index) for index in range(len(book.times))],
        "adjusted": {
            number: (entry.at, entry.amount, entry.margin, entry.cancelled, entry.refunds)
            for number, entry in book.adjusted.items()
        },
    }


def take(book: Ledger, *events: Entry) -> list[str]:
    """Apply what is applicable, as the engine does; return every outcome."""
    outcomes = []
    for event in events:
        outcomes.append(book.check(event).value)
        if outcomes[-1] == "applied":
            book.apply(event)
    return outcomes


def test_orders_stand_sorted_with_prefix_sums_whatever_their_order_of_arrival() -> None:
    book = ledger(order(30, "c", 300, 30), order(10, "a", 100), order(20, "b", 200, -5))
    assert list(book.times) == [10, 20, 30]
    assert list(book.ids) == [id64("a"), id64("b"), id64("c")]
    assert totals(book.paid) == [100, 300, 600]
    assert totals(book.margins) == [0, -5, 25]


def test_without_any_margin_none_are_kept() -> None:
    book = ledger(order(10, "a", 100), order(20, "b", 200))
    assert totals(book.margins) == []
    assert [book.margin(index) for index in (0, 1)] == [0, 0]


def test_margins_are_forgotten_with_the_last_order_as_a_row_forgets_them() -> None:
    book = ledger(order(1, "a", 100, 30), cancel(2, "a"))
    book.apply(order(3, "b", 100))
    assert not book.margins
    assert book.arrays()[3] == b""


def test_a_margin_that_comes_late_leaves_the_earlier_ones_at_zero() -> None:
    book = ledger(order(10, "a", 100), order(20, "b", 200), order(15, "c", 50, 7))
    assert [book.margin(index) for index in range(3)] == [0, 7, 0]


def test_orders_of_one_instant_stand_by_id_whatever_their_order_of_arrival() -> None:
    events = [order(5, name, 100 + index) for index, name in enumerate("abc")]
    assert len({str(state(ledger(*shuffled))) for shuffled in permutations(events)}) == 1


def test_a_redelivered_order_is_a_duplicate_and_a_differing_one_a_conflict() -> None:
    book = ledger(order(10, "a", 100, 5))
    before = state(book)
    assert book.check(order(10, "a", 100, 5)) is Outcome.DUPLICATE
    for other in (order(11, "a", 100, 5), order(10, "a", 101, 5), order(10, "a", 100, 6), order(10, "a", 100)):
        assert book.check(other) is Outcome.CONFLICT
    assert state(book) == before


@pytest.mark.parametrize("touch", [refund(20, "r", "a", 30), refund(20, "r", "a", 100), cancel(20, "a")])
def test_an_order_is_recognised_after_it_was_touched(touch: Entry) -> None:
    book = ledger(order(10, "a", 100, 5), touch)
    assert book.check(order(10, "a", 100, 5)) is Outcome.DUPLICATE
    assert book.check(order(10, "a", 70, 5)) is Outcome.CONFLICT


def test_a_missing_margin_is_the_same_as_a_margin_of_zero() -> None:
    assert ledger(order(10, "a", 100, 0)).check(order(10, "a", 100)) is Outcome.DUPLICATE


def test_partial_refunds_add_up_and_stay_at_the_orders_time() -> None:
    book = ledger(order(10, "a", 100, 40), refund(90, "r1", "a", 30), refund(95, "r2", "a", 20))
    assert (list(book.times), totals(book.paid), totals(book.margins)) == ([10], [50], [40])


def test_a_refunded_order_returns_to_its_place_among_others() -> None:
    book = ledger(order(10, "a", 100), order(20, "b", 200), order(30, "c", 300), refund(90, "r", "b", 50))
    assert (list(book.times), totals(book.paid)) == ([10, 20, 30], [100, 250, 550])


@pytest.mark.parametrize("amount", [100, 101, 10**14])
def test_a_refund_in_full_or_beyond_voids_the_order(amount: int) -> None:
    book = ledger(order(10, "a", 100), order(20, "b", 7), refund(90, "r", "a", amount))
    assert (list(book.times), totals(book.paid)) == ([20], [7])


def test_refunds_that_add_up_to_the_amount_void_the_order() -> None:
    book = ledger(order(10, "a", 100), refund(20, "r1", "a", 60), refund(30, "r2", "a", 40))
    assert list(book.times) == []


def test_a_cent_less_than_all_leaves_the_order_counting() -> None:
    assert totals(ledger(order(10, "a", 100), refund(20, "r", "a", 99)).paid) == [1]


def test_a_refund_before_its_order_waits_for_it() -> None:
    waiting = ledger(refund(20, "r", "a", 30))
    assert list(waiting.times) == []
    waiting.apply(order(10, "a", 100))
    assert state(waiting) == state(ledger(order(10, "a", 100), refund(20, "r", "a", 30)))


def test_a_full_refund_before_its_order_voids_it_on_arrival() -> None:
    assert list(ledger(refund(20, "r", "a", 100), order(10, "a", 100)).times) == []


def test_a_cancelled_order_does_not_count_whether_it_was_known_or_not() -> None:
    assert list(ledger(order(10, "a", 100), cancel(20, "a")).times) == []
    assert list(ledger(cancel(20, "a"), order(10, "a", 100)).times) == []


def test_cancelling_twice_is_a_duplicate() -> None:
    book = ledger(order(10, "a", 100), cancel(20, "a"))
    assert book.check(cancel(20, "a")) is Outcome.DUPLICATE
    assert book.check(cancel(25, "a")) is Outcome.DUPLICATE


def test_refunds_of_a_cancelled_order_change_nothing_that_counts() -> None:
    book = ledger(order(10, "a", 100), order(20, "b", 7), cancel(30, "a"), refund(40, "r", "a", 20))
    assert (list(book.times), totals(book.paid)) == ([20], [7])


def test_a_redelivered_refund_is_a_duplicate_and_a_differing_one_a_conflict() -> None:
    book = ledger(order(10, "a", 100), order(11, "b", 100), refund(20, "r", "a", 30))
    assert book.check(refund(20, "r", "a", 30)) is Outcome.DUPLICATE
    assert book.check(refund(20, "r", "a", 31)) is Outcome.CONFLICT
    assert book.check(refund(20, "r", "b", 30)) is Outcome.CONFLICT
    assert book.check(refund(20, "r2", "a", 30)) is Outcome.APPLIED


def test_an_order_of_nothing_counts_until_it_is_touched() -> None:
    assert list(ledger(order(10, "a", 0)).times) == [10]
    assert list(ledger(order(10, "a", 0), cancel(20, "a")).times) == []


def test_every_order_of_arrival_comes_to_the_same_ledger() -> None:
    events = [
        order(10, "a", 100, 5),
        order(10, "b", 200),
        order(30, "c", 300, 9),
        refund(40, "r1", "a", 30),
        cancel(50, "c"),
        refund(60, "r2", "d", 10),
    ]
    states = [state(ledger(*shuffled)) for shuffled in permutations(events)]
    assert all(one == states[0] for one in states)
    assert states[0]["net"] == ([70, 200] if id64("a") < id64("b") else [200, 70])


# --- bounds -------------------------------------------------------------------------------------


@pytest.fixture
def three_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ORDERS", 3)


@pytest.mark.usefixtures("three_orders")
def test_beyond_the_cap_the_oldest_order_is_folded_away() -> None:
    book = ledger(*(order(10 * number, f"o{number}", number, number) for number in range(1, 6)))
    assert list(book.times) == [30, 40, 50]
    assert (totals(book.paid), totals(book.margins)) == ([3, 7, 12], [3, 7, 12])
    assert (book.folded, book.folded_to) == (2, 20)


@pytest.mark.usefixtures("three_orders")
def test_what_is_as_old_as_folded_orders_has_expired() -> None:
    book = ledger(*(order(10 * number, f"o{number}") for number in range(1, 6)))
    assert take(book, order(20, "o2"), order(5, "new"), order(21, "younger")) == ["expired", "expired", "applied"]


@pytest.mark.usefixtures("three_orders")
def test_folding_forgets_the_orders_adjustment_too() -> None:
    book = ledger(order(10, "a", 100), refund(15, "r", "a", 10), *(order(20 + n, f"o{n}") for n in range(3)))
    assert book.adjusted == {}


@pytest.mark.usefixtures("three_orders")
def test_a_refund_of_a_folded_order_does_not_bring_older_orders_back() -> None:
    book = ledger(*(order(10 * number, f"o{number}") for number in range(1, 8)))
    assert book.folded_to == 40
    take(book, refund(99, "r", "o1", 100), order(10, "o1"))
    assert take(book, order(30, "o3"), order(40, "o4")) == ["expired", "expired"]
    assert list(book.times) == [50, 60, 70]


def test_beyond_the_cap_no_further_order_can_be_adjusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ADJUSTMENTS", 2)
    book = ledger(order(0, "a", 100), refund(1, "r1", "a", 1), cancel(2, "b"))
    assert take(book, refund(3, "r2", "c", 1), cancel(3, "d")) == ["expired", "expired"]
    assert take(book, refund(1, "r1", "a", 1), cancel(2, "b")) == ["duplicate", "duplicate"]
    assert take(book, refund(4, "r3", "a", 1), order(3, "b", 100)) == ["applied", "applied"]
    assert totals(book.paid) == [98]


def test_refunds_of_one_order_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_REFUNDS_OF_ORDER", 2)
    book = ledger(order(1, "a", 100), refund(2, "r1", "a", 1), refund(3, "r2", "a", 1))
    assert take(book, refund(4, "r3", "a", 1), refund(2, "r1", "a", 1)) == ["expired", "duplicate"]


def test_as_many_of_the_largest_amounts_as_are_kept_add_up_within_64_bits() -> None:
    from models.money import MAX_MINOR

    assert module.MAX_ORDERS * MAX_MINOR < 2**63
    book = Ledger()
    for number in range(50):
        book.apply(order(number, str(number), MAX_MINOR, -MAX_MINOR))
    assert (totals(book.paid)[-1], totals(book.margins)[-1]) == (50 * MAX_MINOR, -50 * MAX_MINOR)


@pytest.mark.usefixtures("three_orders")
def test_a_row_counts_from_zero_whatever_was_folded() -> None:
    book = ledger(*(order(10 * number, f"o{number}", number, number) for number in range(1, 6)))
    fresh = ledger(*(order(10 * number, f"o{number}", number, number) for number in range(3, 6)))
    assert book.arrays() == fresh.arrays()
    restored = Ledger(*book.arrays())
    assert state(restored) == state(book)
    assert totals(restored.paid) == [3, 7, 12]


@pytest.mark.usefixtures("three_orders")
def test_orders_without_margins_are_folded_too() -> None:
    book = ledger(*(order(10 * number, f"o{number}", number) for number in range(1, 6)))
    assert (totals(book.paid), list(book.margins)) == ([3, 7, 12], [])


def test_an_order_is_found_among_ids_that_contain_its_bytes_elsewhere() -> None:
    odd = Ledger()
    odd.ids.frombytes(bytes(range(24)))
    target = int.from_bytes(bytes(range(4, 12)), "little")  # astride the first two
    assert odd._find(target) == -1
    assert odd._find(odd.ids[2]) == 2


# --- other currencies -------------------------------------------------------------------------------------------------


def euros(rate: str, **fields: Any) -> Any:
    """Return an event about an order in EUR, as read when one EUR is `rate` of the policy's USD."""
    record = {"order_id": "o", "customer_id": "c", "currency": "EUR", "occurred_at": "2026-03-01T00:00:00Z"} | fields
    wire = Wire(Money("USD", {"EUR": Fraction(rate), "JPY": Fraction("0.0067")}))
    return wire.decode(Topic.ORDERS, None, json.dumps(record).encode())[1]


def paid(rate: str, amount: str, **fields: Any) -> Any:
    return euros(rate, type="order.placed", amount=amount, **fields)


def returned(rate: str, number: int, amount: str, **fields: Any) -> Any:
    return euros(rate, type="order.refunded", refund_id=f"r{number}", amount=amount, **fields)


FULL_REFUNDS = {
    "eight parts that are rounded": [paid("1.0846", "100"), *(returned("1.0846", n, "12.50") for n in range(8))],
    "at a rate that fell": [paid("1.085", "400"), returned("1.05", 0, "400")],
    "at a rate that rose": [paid("1.05", "400"), returned("1.085", 0, "100"), returned("1.2", 1, "300.00")],
    "of a currency without cents": [
        paid("1", "1001", currency="JPY"),
        *(returned("1", n, amount, currency="JPY") for n, amount in enumerate(("333", "334", "334"))),
    ],
}


@pytest.mark.parametrize("events", FULL_REFUNDS.values(), ids=FULL_REFUNDS.keys())
@pytest.mark.parametrize("turn", [0, 1, -1])
def test_a_full_refund_voids_an_order_whatever_the_rate_or_rounding(events: list[Any], turn: int) -> None:
    book = ledger(*events[turn:], *events[:turn])
    assert (list(book.times), totals(book.paid)) == ([], [])


def test_a_part_is_refunded_at_the_rate_of_the_order_and_never_voids_it() -> None:
    book = ledger(paid("1.10", "100"), returned("2.50", 0, "60"))
    assert totals(book.paid) == [4_400]
    book.apply(returned("2.50", 1, "39.99"))
    assert totals(book.paid) == [1]
    book.apply(returned("0.01", 2, "0.01"))
    assert totals(book.paid) == []


def test_refunds_in_another_currency_than_their_order_are_compared_in_the_policys() -> None:
    book = ledger(paid("1.10", "100"), returned("1", 0, "60", currency="USD"))
    assert totals(book.paid) == [5_000]
    book.apply(returned("1", 1, "50", currency="USD"))
    assert totals(book.paid) == []
    assert totals(ledger(paid("1", "100", currency="USD"), returned("1.10", 0, "10")).paid) == [8_900]
