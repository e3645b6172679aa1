"""Lines of a file as records to load: what has no customer is refused, or counted if that is asked for."""

from pathlib import Path

import pytest

from models.events import Topic
from streams.tools.load import LoadError, Skipped, keyed_lines

GOOD = '{"customer_id":"c%d","occurred_at":"2026-03-01T00:00:00Z"}\n'


def test_lines_without_a_customer_are_refused_or_counted(tmp_path: Path) -> None:
    path = tmp_path / "orders.jsonl"
    path.write_text(GOOD % 1 + '{"order_id":"guest"}\nnot JSON\n' + GOOD % 2)
    with pytest.raises(LoadError, match=r"orders\.jsonl, line 2: .*; allowed is JSON with a customer_id\. With --skip"):
        list(keyed_lines(path, Topic.ORDERS))
    skipped = Skipped()
    assert [line.key for line in keyed_lines(path, Topic.ORDERS, skipped=skipped)] == [b"c1", b"c2"]
    assert skipped.count == 2
    assert skipped.first.startswith(f"{path}, line 2: ")


def test_a_row_that_is_no_event_is_refused_or_counted(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    path.write_text(
        "order_id,customer_id,occurred_at,amount\no1,c1,2026-03-01T10:00:00Z,1,50\no2,c2,2026-03-01T10:00:00Z,1\n"
    )
    with pytest.raises(LoadError, match=r"line 2: bad_value: row: found 5 cells, allowed are 4, .*\. With --skip"):
        list(keyed_lines(path, Topic.ORDERS))
    skipped = Skipped()
    assert [line.key for line in keyed_lines(path, Topic.ORDERS, skipped=skipped)] == [b"c2"]
    assert skipped.count == 1


def test_numbers_are_customers_and_words_for_none_are_not(tmp_path: Path) -> None:
    path = tmp_path / "orders.jsonl"
    path.write_text(GOOD.replace('"c%d"', "17850") + GOOD.replace("c%d", "NULL") + GOOD.replace("c%d", " c1"))
    skipped = Skipped()
    assert [line.key for line in keyed_lines(path, Topic.ORDERS, skipped=skipped)] == [b"17850"]
    assert skipped.count == 2
    assert ", line 2: missing_field: customer_id: found 'NULL', a word for none" in skipped.first
