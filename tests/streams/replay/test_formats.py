import csv
import gzip
import io
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from models.errors import BadRecord, Reason, Unreadable, UnusableInput
from models.events import Consent, Topic
from models.money import Money
from models.wire import Wire
from streams.history.columns import ColumnsError, RowMapper, parse_columns
from streams.history.formats import FileError, check_header, format_of, lines_before, read_values
from tests.support.histories import error_line, tidemark

LINES = [
    {
        "type": "order.placed",
        "order_id": f"o{n}",
        "customer_id": "ann",
        "occurred_at": 1_700_000_000_000 + n,
        "amount": "9.50",
    }
    for n in range(40)
]
TEXT = "".join(json.dumps(line) + "\n" for line in LINES).encode()


def zstd(data: bytes) -> bytes:
    pytest.importorskip("backports.zstd" if sys.version_info < (3, 14) else "compression.zstd")
    if sys.version_info >= (3, 14):
        from compression.zstd import compress
    else:
        from backports.zstd import compress
    return compress(data)


def table(delimiter: str = ",") -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerow(["basket", "customer_id", "occurred_at", "amount", "unknown"])
    writer.writerows([each["order_id"], "ann", each["occurred_at"], each["amount"], "x"] for each in LINES)
    return text.getvalue().encode()


def parquet(path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet as writing

    columns = {
        "basket": [each["order_id"] for each in LINES],
        "customer_id": ["ann"] * len(LINES),
        "occurred_at": [datetime.fromtimestamp(each["occurred_at"] / 1000, UTC) for each in LINES],  # type: ignore[operator]
        "amount": [Decimal("9.50")] * len(LINES),
    }
    writing.write_table(arrow.table(columns), path, row_group_size=15)


WRITERS: dict[str, Callable[[Path], Any]] = {
    "orders.jsonl": lambda path: path.write_bytes(TEXT),
    "orders.jsonl.gz": lambda path: path.write_bytes(gzip.compress(TEXT)),
    "orders.jsonl.zst": lambda path: path.write_bytes(zstd(TEXT)),
    "orders.csv": lambda path: path.write_bytes(table()),
    "orders.csv.gz": lambda path: path.write_bytes(gzip.compress(table())),
    "orders.tsv": lambda path: path.write_bytes(b"\xef\xbb\xbf" + table("\t")),
    "orders.parquet": parquet,
}
MAPPED = {"order_id": "basket"}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_events(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    WRITERS[name](path)
    mapped = {} if "jsonl" in name else MAPPED
    check_header(path, Topic.ORDERS, mapped)
    wire = Wire(Money("USD"))
    events = [wire.decode(Topic.ORDERS, None, value) for _, value in read_values(path, Topic.ORDERS, mapped)]
    assert events == [wire.decode(Topic.ORDERS, None, json.dumps(line).encode()) for line in LINES]


def test_the_suffix_says_the_format() -> None:
    assert format_of(Path("a.jsonl"))[:2] == ("lines", None)
    assert format_of(Path("a.b.csv.gz"))[:2] == ("table", "gzip")
    assert format_of(Path("a.NDJSON.ZST"))[:2] == ("lines", "zstd")
    assert format_of(Path("a.parquet"))[:2] == ("parquet", None)
    assert format_of(Path("events"))[:2] == ("lines", None)


@pytest.mark.parametrize("chunk", [1, 7, 1_000])
def test_lines_are_numbered_and_not_torn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr("streams.history.formats._CHUNK", chunk)
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b"one\n\ntwo\r\n\nthree")
    assert list(read_values(path, Topic.ORDERS, {})) == [(1, b"one"), (3, b"two"), (5, b"three")]
    assert list(read_values(path, Topic.ORDERS, {}, 5, 11)) == [(1, b"two")]
    assert lines_before(path, 5) == 2


def test_rows_of_parquet_are_counted_over_its_groups(tmp_path: Path) -> None:
    parquet(tmp_path / "orders.parquet")
    assert lines_before(tmp_path / "orders.parquet", 2) == 30
    group = list(read_values(tmp_path / "orders.parquet", Topic.ORDERS, MAPPED, 2, 3))
    assert [place for place, _ in group] == list(range(1, 11))


def decoded_parquet(path: Path, topic: Topic, **columns: Any) -> list[Any]:
    """Return the events of a table that is written as Parquet and read where there is no pandas."""
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet as writing

    names = [name.replace("__", ".") for name in columns]
    writing.write_table(arrow.table(list(columns.values()), names=names), path)
    wire = Wire(Money("USD"))
    found: list[Any] = wire.decode_batch(topic, [value for _, value in read_values(path, topic, {})])
    return found


def test_nanoseconds_are_cut_off_and_want_no_pandas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrow = pytest.importorskip("pyarrow")
    monkeypatch.setitem(sys.modules, "pandas", None)
    at = arrow.array([1_772_359_200_123_456_789], arrow.timestamp("ns", "UTC"))
    unread = arrow.array([1_772_359_200_123_456_789], arrow.timestamp("ns"))
    columns = {"order_id": ["o1"], "customer_id": ["c1"], "occurred_at": at, "amount": ["5"], "made": unread}
    ((customer, event),) = decoded_parquet(tmp_path / "o.parquet", Topic.ORDERS, **columns)
    assert (customer, event.at, event.amount) == ("c1", 1_772_359_200_123, 500)


def test_bytes_of_parquet_are_text(tmp_path: Path) -> None:
    columns = {"order_id": [b"o1"], "customer_id": [b"c1"], "occurred_at": [b"2026-03-01T10:00:00Z"], "amount": [b"5"]}
    ((customer, event),) = decoded_parquet(tmp_path / "o.parquet", Topic.ORDERS, **columns)
    assert (customer, event.amount) == ("c1", 500)
    columns["customer_id"] = [b"\xff\xfe"]
    decoded_parquet(tmp_path / "bad.parquet", Topic.ORDERS, **columns)
    ((_, refused),) = read_values(tmp_path / "bad.parquet", Topic.ORDERS, {})
    assert isinstance(refused, Unreadable)
    assert refused.reason is Reason.BAD_VALUE


def test_ids_of_parquet_are_text_or_whole_numbers(tmp_path: Path) -> None:
    kinds: list[tuple[list[Any], Reason | str]] = [
        ([17_850], "17850"),
        ([Decimal(17_850)], "17850"),
        ([17_850.0], Reason.BAD_VALUE),
        ([float("nan")], Reason.MISSING_FIELD),
        ([None, "c1"], Reason.MISSING_FIELD),
        ([True], Reason.BAD_VALUE),
        (["nan"], Reason.MISSING_FIELD),
        ([b"c1"], "c1"),
    ]
    for number, (ids, right) in enumerate(kinds):
        path = tmp_path / f"{number}.parquet"
        decoded_parquet(path, Topic.CUSTOMERS, customer_id=ids)
        _, value = next(read_values(path, Topic.CUSTOMERS, {}))
        found = Wire(Money("USD")).decode_batch(Topic.CUSTOMERS, [value])[0]
        assert (found.reason if isinstance(found, BadRecord) else found[0]) == right, ids


@pytest.mark.parametrize(
    ("kind", "number", "birthday"),
    [
        ("date32", 7_373, "1990-03-10"),
        ("timestamp[ns]", 7_373 * 86_400 * 10**9, "1990-03-10"),
        ("timestamp[ms]", 7_373 * 86_400 * 10**3, "1990-03-10"),
        ("timestamp[ms]", 7_373 * 86_400 * 10**3 + 1, None),
    ],
)
def test_a_day_of_parquet_is_a_birthday(tmp_path: Path, kind: str, number: int, birthday: str | None) -> None:
    arrow = pytest.importorskip("pyarrow")
    unit = arrow.date32() if kind == "date32" else arrow.timestamp(kind[-3:-1])
    day = arrow.array([number]).cast(arrow.int32() if kind == "date32" else arrow.int64()).cast(unit)
    ((_, profile),) = decoded_parquet(tmp_path / "c.parquet", Topic.CUSTOMERS, customer_id=["c1"], birthday=day)
    assert profile.birthday == birthday


def test_numbers_of_parquet_are_yes_or_no_and_no_number_is_empty(tmp_path: Path) -> None:
    columns = {"customer_id": ["a", "b", "c", "d"], "consent__marketing": [1.0, 0.0, float("nan"), None]}
    found = decoded_parquet(tmp_path / "c.parquet", Topic.CUSTOMERS, **columns)
    assert [profile.consent and profile.consent.marketing for _, profile in found] == [True, False, None, None]


def test_structs_of_parquet_are_columns(tmp_path: Path) -> None:
    consent = [{"marketing": True, "channels": ["sms"]}, None]
    columns = {"customer_id": ["a", "b"], "consent": consent, "attributes": [{"region": "East"}, {"region": None}]}
    (_, a), (_, b) = decoded_parquet(tmp_path / "c.parquet", Topic.CUSTOMERS, **columns)
    assert (a.consent, a.attributes) == (Consent(marketing=True, channels=("sms",)), {"region": "East"})
    assert (b.consent, b.attributes) == (None, {})


def test_two_columns_of_parquet_with_one_name_are_refused(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet as writing

    names = ["order_id", "customer_id", "occurred_at", "amount", "amount"]
    writing.write_table(arrow.table([["x"]] * 5, names=names), tmp_path / "o.parquet")
    with pytest.raises(ColumnsError, match="2 columns are named 'amount'"):
        check_header(tmp_path / "o.parquet", Topic.ORDERS, {})


# --- columns ------------------------------------------------------------------------------------------------


def test_columns_are_fields_by_topic() -> None:
    mapped = parse_columns(["orders:order_id=basket, amount = total", "customer_id=who", "attributes.region=Region"])
    assert mapped == {
        Topic.CUSTOMERS: {"customer_id": "who", "attributes.region": "Region"},
        Topic.ORDERS: {"order_id": "basket", "amount": "total", "customer_id": "who"},
        Topic.INTERACTIONS: {"customer_id": "who"},
    }


@pytest.mark.parametrize("text", ["order_id", "=x", "order_id=", "colour=x", "orders:kind=x", "attributes.=x", ""])
def test_columns_that_mean_nothing_are_refused(text: str) -> None:
    with pytest.raises(ColumnsError, match="--columns: found"):
        parse_columns([text])


def test_names_of_columns_may_have_commas() -> None:
    text = "amount=Total, incl. VAT,order_id=\"a=b, c=d\",type='order.placed'"
    assert parse_columns([f"orders:{text}"])[Topic.ORDERS] == {
        "amount": "Total, incl. VAT",
        "order_id": "a=b, c=d",
        "type": "'order.placed'",
    }


def test_a_constant_that_no_field_can_have_is_refused() -> None:
    with pytest.raises(ColumnsError, match=r"--columns: consent\.marketing: found neither yes nor no"):
        RowMapper("c.csv", Topic.CUSTOMERS, ["customer_id"], {"consent.marketing": "'maybe'"})


@pytest.mark.parametrize("text", ["nan", "inf", "1_000"])
def test_a_text_that_only_python_takes_for_a_number_is_no_value(text: str) -> None:
    mapper = RowMapper(
        "i.csv", Topic.INTERACTIONS, ["value", "interaction_id", "customer_id", "occurred_at", "kind"], {}
    )
    (found,) = Wire(Money("USD")).decode_batch(
        Topic.INTERACTIONS, [mapper.value([text, "i1", "c1", "2026-03-01T10:00:00Z", "visit"])]
    )
    assert isinstance(found, BadRecord)


def test_a_row_of_a_profile_becomes_nested_json() -> None:
    header = ["customer_id", "optin", "channels", "updated_at", "Region", "birthday"]
    mapped = {"consent.marketing": "optin", "consent.channels": "channels", "attributes.region": "Region"}
    mapper = RowMapper("customers.csv", Topic.CUSTOMERS, header, mapped)
    value = mapper.value(["ann", "Yes", "sms;email", "1700000000000", "East", ""])
    assert json.loads(value) == {
        "customer_id": "ann",
        "consent": {"marketing": True, "channels": ["sms", "email"]},
        "updated_at": 1_700_000_000_000,
        "attributes": {"region": "East"},
    }


def test_a_constant_stands_for_a_column() -> None:
    header = ["id", "customer_id", "occurred_at", "score"]
    mapped = {"interaction_id": "id", "kind": "'survey'", "value": "score"}
    mapper = RowMapper("surveys.csv", Topic.INTERACTIONS, header, mapped)
    assert json.loads(mapper.value(["i1", "ann", "2026-01-01T00:00:00Z", "8.5"])) == {
        "type": "interaction",
        "interaction_id": "i1",
        "customer_id": "ann",
        "occurred_at": "2026-01-01T00:00:00Z",
        "kind": "survey",
        "value": 8.5,
    }


# --- what cannot be read ------------------------------------------------------------------------------------


def cut(data: bytes) -> bytes:
    return data[: len(data) * 2 // 3]


@pytest.mark.parametrize(
    ("name", "data", "line"),
    [
        ("orders.jsonl.gz", cut(gzip.compress(TEXT)), "is cut off: its compressed data ends before its end"),
        ("orders.csv.gz", cut(gzip.compress(table())), "is cut off: its compressed data ends before its end"),
        ("orders.jsonl.gz", b"not gzip at all", "cannot be read: Not a gzipped file"),
        ("orders.jsonl.gz", gzip.compress(TEXT)[:-8] + b"12345678", "cannot be read: CRC check failed"),
        ("orders.csv", b"", "is empty; its first line must name the columns"),
        ("orders.csv", b"who,occurred_at,amount\n", "no column for order_id, customer_id"),
        ("orders.csv", table().replace(b",x\r\n", b',"x\r\n', 1), "cannot be read: unexpected end of data"),
        ("orders.csv", table().replace(b"ann", b"\xff", 1), "cannot be read: the byte 0xff in line 2 is not UTF-8"),
        ("orders.parquet", b"PAR1 and nothing else", "cannot be read: "),
    ],
)
def test_what_cannot_be_read_is_one_line_and_leaves_nothing(tmp_path: Path, name: str, data: bytes, line: str) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    (tmp_path / name).write_bytes(data)
    mapped = () if "no column" in line or "jsonl" in name or not data else ("--columns", "order_id=basket")
    done = tidemark(tmp_path, "replay", "--orders", name, *mapped, "--policy", "demo", "--out", "out")
    assert line in error_line(done)
    assert name in error_line(done)
    assert not (tmp_path / "out").exists()


def test_a_truncated_zst_is_told(tmp_path: Path) -> None:
    (tmp_path / "orders.jsonl.zst").write_bytes(cut(zstd(TEXT)))
    with pytest.raises(FileError, match="is cut off"):
        list(read_values(tmp_path / "orders.jsonl.zst", Topic.ORDERS, {}))
    (tmp_path / "other.zst").write_bytes(b"nothing of the kind")
    with pytest.raises(FileError, match="cannot be read"):
        list(read_values(tmp_path / "other.zst", Topic.ORDERS, {}))


def test_a_column_that_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "orders.csv").write_bytes(table())
    with pytest.raises(UnusableInput, match="column 'bsket' is missing; there are basket, customer_id, "):
        check_header(tmp_path / "orders.csv", Topic.ORDERS, {"order_id": "bsket"})


def test_outputs_of_a_former_run_stay_where_the_next_one_fails(tmp_path: Path) -> None:
    (tmp_path / "orders.jsonl").write_bytes(TEXT)
    assert tidemark(tmp_path, "replay", "--orders", "orders.jsonl", "--policy", "demo", "--out", "out").returncode == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    (tmp_path / "orders.jsonl.gz").write_bytes(cut(gzip.compress(TEXT)))
    done = tidemark(tmp_path, "replay", "--orders", "orders.jsonl.gz", "--policy", "demo", "--out", "out")
    assert "is cut off" in error_line(done)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
