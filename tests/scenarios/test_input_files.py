"""Input as people have it, file by file: what `tidemark replay` makes of it, or the line with which it refuses.

Each case stands for a kind: exports of spreadsheets, databases and shops, and files of other programs.
"""

import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest

POLICY = """
version: cases
currency: USD
window: 365d
schemes:
  loyalty:
    tiers:
      - {name: regular}
      - {name: silver, when: {monetary: ">= 300"}}
      - {name: gold, when: {monetary: ">= 800"}}
    demotion: {grace: 30d}
care:
  - {name: bday, kind: birthday_offer, trigger: birthday, at: "09:00", channel: sms}
"""
HEADER = "order_id,customer_id,occurred_at,amount\n"
ORDER = {"type": "order.placed", "order_id": "o1", "customer_id": "c1", "occurred_at": "2026-03-01T10:00:00Z"}


def row(number: int, customer: str = "c1", amount: str = "500.00") -> str:
    return f"o{number},{customer},2026-03-0{number}T10:00:00Z,{amount}\n"


def line(**changes: Any) -> str:
    return json.dumps(ORDER | {"amount": "500.00"} | changes) + "\n"


def profiles(*consents: str) -> str:
    head = "customer_id,birthday,updated_at,consent.marketing,consent.channels\n"
    return head + "".join(
        f"c{n},1990-03-10,2026-01-01T00:00:00Z,{consent}\n" for n, consent in enumerate(consents, start=1)
    )


class Case(NamedTuple):
    """A file and further arguments; what is printed, the exit code, what customers spent, and who gets an offer."""

    file: str
    content: str | bytes
    says: str = ""
    spent: dict[str, str] | None = None
    arguments: tuple[str, ...] = ()
    status: int = 0
    offers: tuple[str, ...] = ()


CASES = {
    "a decimal comma": Case("orders.csv", HEADER + row(1, amount="1,234.50"), "found 5 cells, allowed are 4", status=2),
    "a row that is cut off": Case(
        "orders.csv",
        HEADER + row(1) * 30 + "o2,c1,2026-03-02T10:00:00Z\n",
        "line 32: row: found 3 cells",
        {"c1": "500.00"},
    ),
    "semicolons": Case("orders.csv", (HEADER + row(1)).replace(",", ";"), "the delimiter looks like ';'", status=2),
    "tabs in a .csv": Case("orders.csv", (HEADER + row(1)).replace(",", "\t"), "looks like 'tab'", status=2),
    "UTF-16 lines": Case("orders.jsonl", line().encode("utf-16"), "is in UTF-16, allowed is UTF-8", status=2),
    "UTF-16 lines without a mark": Case("orders.jsonl", line().encode("utf-16-le"), "is in UTF-16", status=2),
    "a UTF-16 table": Case("orders.csv", (HEADER + row(1)).encode("utf-16-be"), "is in UTF-16", status=2),
    "latin-1": Case(
        "orders.csv", (HEADER + row(1) + row(2, "José")).encode("latin-1"), "line 3 is not UTF-8", status=2
    ),
    "lines with a byte order mark": Case("orders.jsonl", b"\xef\xbb\xbf" + line().encode(), spent={"c1": "500.00"}),
    "a table with a byte order mark": Case(
        "orders.csv", b"\xef\xbb\xbf" + (HEADER + row(1)).encode(), spent={"c1": "500.00"}
    ),
    "a JSON array": Case("orders.json", f"[{line()}]", "is a JSON array, allowed are JSON lines", status=2),
    "indented JSON": Case("orders.json", json.dumps(ORDER, indent=2), "has objects over several lines", status=2),
    "two columns of one name": Case(
        "orders.csv",
        HEADER.replace("\n", ",amount\n") + "o1,c1,2026-03-01T10:00:00Z,5,7\n",
        "2 columns 'amount'",
        status=2,
    ),
    "blanks around cells": Case(
        "orders.csv",
        "order_id, customer_id, occurred_at, amount\n" + row(1, " c1") + row(2, "c1 ", " 500.00"),
        spent={"c1": "1000.00"},
    ),
    "an unclosed quote": Case("orders.csv", HEADER + row(1) + '"o2,c1', "line 3: unexpected end of data", status=2),
    "a column with a comma": Case(
        "orders.csv",
        'order_id,customer_id,occurred_at,"Total, net"\n' + row(1),
        spent={"c1": "500.00"},
        arguments=("--columns", 'amount="Total, net"'),
    ),
    "words for nothing as customers": Case(
        "orders.csv",
        HEADER + row(1) * 99 + "".join(row(2, word) for word in ("NULL", "None", "nan", "\\N")),
        "customer_id: found 'NULL', which stands for nothing",
        {"c1": "500.00"},
    ),
    "words for nothing that are named": Case(
        "orders.csv",
        HEADER.replace("\n", ",margin\n") + row(1).replace("\n", ",NULL\n"),
        spent={"c1": "500.00"},
        arguments=("--null", "NULL"),
    ),
    "whole floats as ids": Case("orders.csv", HEADER + row(1, "17850.0"), spent={"17850": "500.00"}),
    "ids that a spreadsheet rounded": Case(
        "orders.csv", HEADER + row(1, "4.50789E+12"), "found '4.50789E+12', a rounded number", status=2
    ),
    "integers as ids": Case(
        "orders.jsonl", line(order_id=450789469, customer_id=207119551), spent={"207119551": "500.00"}
    ),
    "epoch seconds": Case("orders.jsonl", line(occurred_at=1_772_359_200), "looks like epoch seconds", status=2),
    "dates in digits": Case("orders.jsonl", line(occurred_at=20260301), "looks like a date written", status=2),
    "consent in words": Case(
        "customers.csv",
        profiles("true,sms", "1.0,sms", "on,sms", "Y,sms", "0,sms", "off,sms", "ja,sms"),
        "consent.marketing: found 'ja', allowed are true, yes",
        offers=("c1", "c2", "c3", "c4"),
        arguments=("--max-bad", "20"),
    ),
    "channels in every spelling": Case(
        "customers.csv",
        profiles("true,email;sms", "true,email; sms", 'true,"email,sms"', "true,SMS", 'true,"[""email"",""sms""]"'),
        offers=("c1", "c2", "c3", "c4", "c5"),
    ),
    "an empty birthday": Case(
        "customers.jsonl",
        '{"customer_id":"c1","birthday":"","updated_at":"2026-01-01T00:00:00Z","consent":{"marketing":true}}\n',
    ),
}


def replay(directory: Path, file: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    (directory / "policy.yaml").write_text(POLICY)
    command = [
        sys.executable,
        "-m",
        "streams",
        "replay",
        f"--{file.partition('.')[0]}",
        file,
        "--policy",
        "policy.yaml",
    ]
    command += ["--out", "out", "--until", "2026-12-01T00:00:00Z", *arguments]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=60, check=False)


def spent(directory: Path) -> dict[str, str]:
    lines = (directory / "out" / "customers.jsonl").read_text().splitlines()
    held = {each["customer_id"]: each["metrics"].get("monetary", "0") for each in map(json.loads, lines)}
    return {name: text for name, text in held.items() if Decimal(text)}


@pytest.mark.parametrize("name", CASES)
def test_a_file_is_read_as_it_is_meant_or_refused_in_one_line(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    content = case.content.encode() if isinstance(case.content, str) else case.content
    (tmp_path / case.file).write_bytes(content)
    done = replay(tmp_path, case.file, *case.arguments)
    shown = done.stdout + done.stderr
    assert done.returncode == case.status, shown
    assert "Traceback" not in shown
    assert case.says.lower() in shown.lower()
    if not case.says:
        assert "the first" not in shown
    if case.status == 0:
        assert spent(tmp_path) == (case.spent or {})
        actions = (tmp_path / "out" / "care-actions.jsonl").read_text().splitlines()
        assert tuple(sorted(json.loads(each)["customer_id"] for each in actions)) == case.offers


def table(directory: Path, name: str, columns: dict[str, Any]) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(
        pyarrow.table({field: pyarrow.array(values) for field, values in columns.items()}), directory / name
    )


def test_parquet_holds_ids_as_bytes_and_floats_and_instants_in_nanoseconds(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    at = pyarrow.array([1_772_359_200_123_456_789] * 3, pyarrow.timestamp("ns", "UTC"))
    names = pyarrow.array([b"c1", b"17850.0", b"\xff"], pyarrow.binary())
    table(
        tmp_path,
        "orders.parquet",
        {"order_id": [1.0, 2.0, 3.0], "customer_id": names, "occurred_at": at, "amount": [5, 6, 7]},
    )
    done = replay(tmp_path, "orders.parquet", "--max-bad", "50")
    assert done.returncode == 0, done.stderr
    assert spent(tmp_path) == {"c1": "5.00", "17850": "6.00"}
    assert "customer_id: allowed is text in UTF-8" in done.stdout


def test_parquet_without_a_customer_is_no_customer_called_nan(tmp_path: Path) -> None:
    names = [float("nan"), None, 17850.0]
    at = ["2026-03-01T10:00:00Z"] * 3
    table(
        tmp_path,
        "orders.parquet",
        {"order_id": ["a", "b", "c"], "customer_id": names, "occurred_at": at, "amount": [5, 6, 7]},
    )
    done = replay(tmp_path, "orders.parquet", "--max-bad", "70")
    assert done.returncode == 0, done.stderr
    assert spent(tmp_path) == {"17850": "7.00"}
    assert "missing_field" in done.stdout


def test_parquet_has_birthdays_as_instants_and_consent_as_numbers(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    days = pyarrow.array([637_027_200_000] * 2, pyarrow.timestamp("ms"))
    columns = {"customer_id": ["c1", "c2"], "birthday": days, "consent.marketing": [1.0, 0.0]}
    table(tmp_path, "customers.parquet", columns | {"updated_at": ["2026-01-01T00:00:00Z"] * 2})
    done = replay(tmp_path, "customers.parquet")
    assert done.returncode == 0, done.stderr
    (offer,) = map(json.loads, (tmp_path / "out" / "care-actions.jsonl").read_text().splitlines())
    assert (offer["customer_id"], offer["due_at"][:10]) == ("c1", "2026-03-10")
