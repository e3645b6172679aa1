"""Small files of the kinds that once went wrong silently: each is replayed by the command and has one right value."""

import codecs
import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import pytest

from tests.support.histories import error_line, tidemark

POLICY = """
version: "t1"
currency: USD
window: 365d
schemes:
  loyalty:
    tiers:
      - {name: regular}
      - {name: gold, when: {monetary: ">= 800"}}
    demotion: {grace: 30d}
care:
  - {name: bday, kind: birthday_offer, trigger: birthday, at: "09:00", channel: sms}
"""
HEAD = "order_id,customer_id,occurred_at,amount\n"
AT = "2026-03-01T10:00:00Z"
ROW = f"o1,c1,{AT},500\n"
LINE = f'{{"type":"order.placed","order_id":"o1","customer_id":"c1","occurred_at":"{AT}","amount":"500"}}\n'
OTHER = LINE.replace("o1", "o2").replace("500", "5")
QUOTED = f'order_id,customer_id,occurred_at,"Total, incl. VAT"\n{ROW}'
PEOPLE = "customer_id,birthday,updated_at,consent.marketing,consent.channels\n"


class Case(NamedTuple):
    """A file, the options besides it, and what is right: money by customer and reasons by line, or the refusal."""

    name: str
    data: str | bytes
    money: Mapping[str, str] = MappingProxyType({})
    bad: Mapping[int, str] = MappingProxyType({})
    refusal: str = ""
    options: tuple[str, ...] = ()


def wide(text: str, encoding: str, mark: bytes = b"") -> bytes:
    return mark + text.encode(encoding)


CASES = {
    # --- rows ---
    "a row with too many cells": Case("o.csv", f"{HEAD}o0,c1,{AT},1,234.50\n{ROW}", {"c1": "500.00"}, {2: "bad_value"}),
    "a row with too few cells": Case("o.csv", f"{HEAD}o0,c1,{AT}\n{ROW}", {"c1": "500.00"}, {2: "bad_value"}),
    "empty lines are no rows": Case("o.csv", f"{HEAD}\n{ROW}\n", {"c1": "500.00"}),
    "semicolons": Case(
        "o.csv", (HEAD + ROW).replace(",", ";"), refusal="separated by semicolons: write it with commas"
    ),
    "tabs": Case("o.csv", (HEAD + ROW).replace(",", "\t"), refusal="separated by tabs: rename it to .tsv"),
    "commas in a .tsv": Case("o.tsv", HEAD + ROW, refusal="separated by commas"),
    "quotes in a quoted cell": Case("o.csv", f'{HEAD}{ROW}"o"2,c1,{AT},5\n', refusal="the row that begins in line 3;"),
    "a quote without its other": Case("o.csv", f'{HEAD}{ROW}o2,"c1,{AT},5\n', refusal="the row that begins in line 3;"),
    "a quote without its other, far from the end": Case(
        "o.csv", f'{HEAD}o0,"c1,{AT},5\n{ROW * 9}', refusal="the row that begins in line 2;"
    ),
    # --- ids ---
    "words for none": Case(
        "o.csv",
        HEAD + "".join(f"o{n},{word},{AT},5\n" for n, word in enumerate(("NULL", "nan", "\\N", "", "None"))) + ROW,
        {"c1": "500.00"},
        dict.fromkeys(range(2, 7), "missing_field"),
    ),
    "words that mark empty cells": Case(
        "o.csv",
        f"{HEAD.strip()},margin\no1,c1,{AT},5,NULL\no2,-,{AT},5,-\n",
        {"c1": "5.00"},
        {3: "missing_field"},
        options=("--null", "NULL", "--null", "-"),
    ),
    "no order id": Case("o.csv", f"{HEAD}NULL,c1,{AT},5\n{ROW}", {"c1": "500.00"}, {2: "missing_field"}),
    "floats and bytes": Case(
        "o.csv",
        f"{HEAD}1.0,c1,{AT},5\no2,17850.0,{AT},5\no3,4.50789E+12,{AT},5\no4,b'c1',{AT},5\n{ROW}",
        {"c1": "500.00"},
        dict.fromkeys(range(2, 6), "bad_value"),
    ),
    "blanks around ids": Case("o.csv", f"{HEAD}{ROW} o1 ,c1,{AT},500\no2, c1 ,{AT},5\n", {"c1": "505.00"}),
    "numbers in JSON": Case(
        "o.jsonl",
        (LINE + OTHER).replace('"c1"', "17850").replace('"o1"', "1").replace('"o2"', "2"),
        {"17850": "505.00"},
    ),
    "a number and its text": Case("o.jsonl", LINE.replace('"c1"', "7") + OTHER.replace("c1", "7"), {"7": "505.00"}),
    "no ids in JSON": Case(
        "o.jsonl",
        LINE + OTHER.replace("c1", "None") + OTHER.replace("c1", " c1") + OTHER.replace('"c1"', "17850.0"),
        {"c1": "500.00"},
        {2: "missing_field", 3: "bad_value", 4: "wrong_type"},
    ),
    "an id over two lines": Case("o.csv", f'{HEAD}o0,"c\n1",{AT},5\n{ROW}', {"c1": "500.00"}, {2: "bad_value"}),
    # --- headers ---
    "an empty line before the header": Case("o.csv", f"\n{HEAD}{ROW}", {"c1": "500.00"}),
    "two columns of one name": Case("o.csv", f"{HEAD.strip()},amount\n{ROW.strip()},600\n", refusal="named 'amount'"),
    "two columns that differ in blanks": Case(
        "o.csv", f"{HEAD.strip()}, amount\n{ROW.strip()},600\n", refusal="2 columns are named 'amount'"
    ),
    "two columns of one name that is not read": Case("o.csv", f"x,x,{HEAD}1,2,{ROW}", {"c1": "500.00"}),
    "blanks in the header and in cells": Case("o.csv", (HEAD + ROW).replace(",", " , "), {"c1": "500.00"}),
    "a column with a comma": Case("o.csv", QUOTED, {"c1": "500.00"}, options=("--columns", "amount=Total, incl. VAT")),
    "a column with a comma, among others": Case(
        "o.csv", QUOTED, {"c1": "500.00"}, options=("--columns", 'amount="Total, incl. VAT",customer_id=customer_id')
    ),
    # --- encodings ---
    "a mark before JSON lines": Case("o.jsonl", b"\xef\xbb\xbf" + (LINE + OTHER).encode(), {"c1": "505.00"}),
    "a mark before packed JSON lines": Case(
        "o.jsonl.gz", gzip.compress(b"\xef\xbb\xbf" + (LINE + OTHER).encode()), {"c1": "505.00"}
    ),
    "joined files that each had a mark": Case(
        "o.jsonl", b"\xef\xbb\xbf" + LINE.encode() + b"\xef\xbb\xbf" + OTHER.encode(), {"c1": "505.00"}
    ),
    "a mark before a table": Case("o.csv", b"\xef\xbb\xbf" + (HEAD + ROW).encode(), {"c1": "500.00"}),
    "a byte of latin-1 in a table": Case(
        "o.csv", (HEAD + ROW).encode() + f"o2,café,{AT},5\n".encode("latin-1"), refusal="0xe9 in line 3 is not UTF-8"
    ),
    "a byte of latin-1 in JSON lines": Case(
        "o.jsonl", LINE.encode() + OTHER.replace("c1", "é").encode("latin-1"), {"c1": "500.00"}, {2: "not_json"}
    ),
    **{
        f"{encoding}{' with a mark' if mark else ''}, {name}": Case(
            name,
            wide(text, encoding, mark),
            refusal=f"is {says}, allowed is UTF-8: convert it, as with `iconv -f {says if mark else encoding}",
        )
        for encoding, sign, says in (
            ("UTF-16LE", codecs.BOM_UTF16_LE, "UTF-16"),
            ("UTF-16BE", codecs.BOM_UTF16_BE, "UTF-16"),
            ("UTF-32LE", codecs.BOM_UTF32_LE, "UTF-32"),
        )
        for mark in (b"", sign)
        for name, text in (("o.jsonl", LINE), ("o.csv", HEAD + ROW))
    },
    # --- JSON that is not lines ---
    "a JSON array": Case("o.json", f"[{LINE},\n {OTHER}]", refusal="is a JSON array, not JSON lines"),
    "a JSON array after blank lines": Case("o.json", f"\n \n[{LINE}]", refusal="is a JSON array, not JSON lines"),
    "JSON over several lines": Case(
        "o.json", json.dumps(json.loads(LINE), indent=2), refusal="has JSON objects over several lines"
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_file_of_orders_has_its_right_value(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / case.name).write_bytes(case.data if isinstance(case.data, bytes) else case.data.encode())
    arguments = ("replay", "--orders", case.name, *case.options, "--policy", "policy.yaml", "--out", "out")
    done = tidemark(tmp_path, *arguments, "--max-bad", "99")
    if case.refusal:
        assert case.refusal in error_line(done)
        assert case.name in error_line(done)
        assert not (tmp_path / "out").exists()
        return
    assert done.returncode == (0 if case.money else 2), done.stderr
    found = [json.loads(line) for line in (tmp_path / "out/customers.jsonl").read_text().splitlines()]
    assert {each["customer_id"]: each["metrics"]["monetary"] for each in found} == case.money
    bad = [json.loads(line) for line in (tmp_path / "out/dead-letters.jsonl").read_text().splitlines()]
    assert {each["line"]: each["reason"] for each in bad} == case.bad


CONSENTS = {
    **dict.fromkeys(("True", "yes", "Y", "t", "1", "1.0", " true "), 1),
    **dict.fromkeys(("false", "no", "0", "0.0", ""), 0),
    **dict.fromkeys(("on", "subscribed", "x", "ja", "oui", "是", "2", "NULL"), None),
}


@pytest.mark.parametrize(("cell", "offers"), CONSENTS.items())
def test_a_cell_of_consent_is_yes_or_no_or_refused(tmp_path: Path, cell: str, offers: int | None) -> None:
    assert offers_to(tmp_path, f"c1,1990-03-10,2026-01-01T00:00:00Z,{cell},") == (
        (offers, []) if offers is not None else (0, ["bad_value"])
    )


CHANNELS = ("email;sms", "email; sms", "SMS", '"email,sms"', "email|sms ", '"[""email"",""sms""]"', "")


@pytest.mark.parametrize(("cell", "offers"), [*((cell, 1) for cell in CHANNELS), ("email", 0), ("smsx", 0)])
def test_channels_are_read_as_they_are_meant(tmp_path: Path, cell: str, offers: int) -> None:
    assert offers_to(tmp_path, f"c1,1990-03-10,2026-01-01T00:00:00Z,true,{cell}") == (offers, [])


def test_a_list_of_channels_that_is_cut_off_allows_none(tmp_path: Path) -> None:
    row = 'c1,1990-03-10,2026-01-01T00:00:00Z,true,"[""sms"""'
    assert offers_to(tmp_path, row) == (0, ["field_ignored"])


def offers_to(directory: Path, row: str) -> tuple[int, list[str]]:
    """Return how many birthday offers a row of a profile gets by text message, and the reasons of dead letters."""
    (directory / "policy.yaml").write_text(POLICY)
    (directory / "people.csv").write_text(f"{PEOPLE}{row}\n")
    (directory / "orders.csv").write_text(HEAD + ROW)
    inputs = ("--customers", "people.csv", "--orders", "orders.csv", "--policy", "policy.yaml")
    done = tidemark(directory, "replay", *inputs, "--until", "2026-12-01T00:00:00Z", "--out", "out", "--max-bad", "99")
    assert done.returncode == 0, done.stderr
    bad = (directory / "out/dead-letters.jsonl").read_text().splitlines()
    actions = (directory / "out/care-actions.jsonl").read_text().splitlines()
    return len(actions), [json.loads(line)["reason"] for line in bad]
