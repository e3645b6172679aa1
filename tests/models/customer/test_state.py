import msgspec
import pytest

from models.customer.state import NEVER, ROW_VERSION, Care, Customer, DeferredAction, Mark, Sent, Standing, row_instant
from models.errors import TidemarkError
from models.events import Consent, Profile
from models.instants import MIN_INSTANT
from tests.models.build import Run, cancel, contact, day, order, policy, refund, tiers

HEADER = 13


def full() -> Customer:
    """Return a customer in whom every field differs from a new one's."""
    care = {"name": "churn", "kind": "churn", "trigger": "condition", "when": {"recency_days": "> 5"}}
    scheme = tiers({"frequency": ">= 2"}, grace="30d")
    run = Run(policy(scheme, care, weights={"visit": "1"}), settled=True)
    known = Profile(day(1), "--02-29", "Asia/Shanghai", "zh-CN", Consent(True, ("sms",)), day(0), {"a": [1]}, day(1))
    run.take(known, order(day(2), "a", 500, -7), order(day(3), "b", 700), refund(day(4), "r", "b", 100))
    run.take(cancel(day(5), "c"), contact(day(6), "i", "visit"), contact(day(6), "u", "unsubscribe"))
    run.take(contact(day(6), "s", "survey", 9_500), cancel(day(5), "c")).until(day(104))
    assert run.customer.standings["loyalty"].below_since is not None
    run.take(order(day(105), "d"), refund(day(106), "r2", "d", 1), cancel(day(107), "e"), contact(day(108), "j"))
    run.take(Profile(day(109), updated_at=day(109)))
    run.customer.care = Care(
        {"call": day(1)},
        [Sent(day(2), "churn", "churn", 7, "t1", True, 3)],
        [DeferredAction(day(9), "churn", "1", day(8), [("frequency", 1, ">=", 1, True)], "churn", None, day(7))],
    )
    run.customer.ledger.foreign = {7: ("EUR", 99)}
    run.customer.ledger.folded, run.customer.ledger.folded_to = 3, day(-1)
    return run.customer


def fields(customer: Customer) -> dict[str, object]:
    ledger, interactions = customer.ledger, customer.interactions
    shown = {
        name: getattr(customer, name) for name in Customer.__slots__ if name not in ("asked", "ledger", "interactions")
    }
    kept = (name for name in type(ledger).__slots__ if not name.startswith("_"))
    shown |= {f"ledger.{name}": getattr(ledger, name) for name in kept}
    return shown | {f"interactions.{name}": getattr(interactions, name) for name in type(interactions).__slots__}


def test_a_row_holds_everything() -> None:
    customer = full()
    empty = fields(Customer("c1"))
    same = {name for name, value in fields(customer).items() if value == empty[name]}
    assert same == {"customer_id"}, "the example must fill every field"
    restored = Customer.from_row("c1", customer.to_row())
    assert fields(restored) == fields(customer)
    assert restored.to_row() == customer.to_row()


def test_a_restored_customer_knows_what_its_row_asked_for() -> None:
    customer = full()
    assert (customer.asked, Customer.from_row("c1", customer.to_row()).asked) == (NEVER, customer.next_instant)
    customer.due = NEVER
    customer.pending.clear()
    assert Customer.from_row("c1", customer.to_row()).asked == NEVER


def test_a_row_of_before_orders_knew_their_own_currency_is_read() -> None:
    row = full().to_row()
    older = msgspec.msgpack.decode(row[HEADER:], strict=False)[:-1]
    older[4] = {number: adjustment[:5] for number, adjustment in older[4].items()}
    restored = Customer.from_row("c1", row[:HEADER] + msgspec.msgpack.encode(older))
    assert restored.ledger.foreign == {}
    assert restored.ledger.adjusted == full().ledger.adjusted


def test_a_new_customer_fits_into_a_row_too() -> None:
    assert fields(Customer.from_row("c1", Customer("c1").to_row())) == fields(Customer("c1"))


def test_a_restored_customer_can_be_worked_on() -> None:
    restored = Customer.from_row("c1", full().to_row())
    restored.ledger.apply(order(day(200), "z", 100, 5))
    restored.ledger.apply(refund(day(201), "r9", "z", 1))
    restored.interactions.apply(contact(day(200), "z"))
    again = Customer.from_row("c1", restored.to_row())
    assert again.ledger.times[-1] == again.interactions.times[-1] == day(200)
    assert again.ledger.net(len(again.ledger.times) - 1) == 99


def test_the_instant_of_a_row_is_read_without_decoding_it() -> None:
    customer = Customer("c1")
    customer.timeline = 7
    assert row_instant(customer.to_row(), 7) == NEVER
    customer.due = day(5)
    assert row_instant(customer.to_row(), 7) == day(5)
    customer.pending.append(order(day(3), "a"))
    assert row_instant(customer.to_row(), 7) == customer.next_instant == day(3)
    customer.due = MIN_INSTANT
    assert row_instant(customer.to_row()[:HEADER], 7) == MIN_INSTANT


@pytest.mark.parametrize("other", [0, 6, 8, 2**32 - 1])
def test_a_row_that_was_evaluated_under_other_versions_is_due_at_once(other: int) -> None:
    customer = Customer("c1")
    customer.timeline, customer.due = 7, day(5)
    assert row_instant(customer.to_row(), other) == MIN_INSTANT


def test_a_changed_policy_makes_every_care_rule_compute_its_due_instant_again() -> None:
    customer = Customer("c1")
    customer.marks = {"b": Mark(2026, False, day(300)), "c": Mark(day(1), True, None)}
    customer.forget_due()
    assert customer.marks == {"b": Mark(2026, False, None), "c": Mark(day(1), True, None)}


@pytest.mark.parametrize("version", [0, ROW_VERSION + 1, 255])
def test_rows_of_an_unknown_version_are_refused(version: int) -> None:
    row = bytes([version]) + full().to_row()[1:]
    with pytest.raises(TidemarkError, match=f"version {version}"):
        Customer.from_row("c1", row)


def test_a_row_with_fewer_trailing_fields_decodes_with_defaults() -> None:
    row = full().to_row()
    older = msgspec.msgpack.decode(row[HEADER:], strict=False)[:-3]
    restored = Customer.from_row("c1", row[:HEADER] + msgspec.msgpack.encode(older))
    assert (restored.policy_version, restored.care) == (None, None)
    known = fields(full())
    assert fields(restored) | {name: known[name] for name in ("policy_version", "care", "ledger.foreign")} == known


def test_a_row_with_more_trailing_fields_decodes() -> None:
    row = full().to_row()
    newer = [*msgspec.msgpack.decode(row[HEADER:]), {"unknown": 1}, None]
    assert fields(Customer.from_row("c1", row[:HEADER] + msgspec.msgpack.encode(newer))) == fields(full())


@pytest.mark.parametrize(("kind", "short"), [(Standing, ["gold", 5]), (Mark, []), (Mark, [2026])])
def test_parts_of_a_row_grow_at_their_end_too(kind: type[Standing] | type[Mark], short: list[object]) -> None:
    part = msgspec.msgpack.decode(msgspec.msgpack.encode(short), type=kind)
    longer = [*msgspec.msgpack.decode(msgspec.msgpack.encode(part)), "new"]
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(longer), type=kind) == part
