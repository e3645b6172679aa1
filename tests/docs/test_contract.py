"""The contract says what the code takes and gives: examples, fields, reasons, bounds."""

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from config.policy_files import POLICIES, load_timeline
from models import wire, wire_shapes
from models.customer.interactions import MAX_INTERACTIONS
from models.customer.ledger import MAX_ADJUSTMENTS, MAX_ORDERS, MAX_REFUNDS_OF_ORDER
from models.customer.state import row_flaw
from models.engine.decide import MAX_PENDING, MAX_PENDING_PROFILES
from models.errors import Reason
from models.events import KNOWN_KINDS, Topic
from models.instants import DAY_MS, MAX_DURATION, parse_instant
from models.money import MAX_MINOR, Money
from models.rules.metrics import METRICS
from streams.partition.encoder import Encoder
from streams.partition.processor import Processor
from streams.partition.state import Partition, Watermark
from streams.partition.step import Timing
from tests.docs.pages import (
    BLOCKS,
    CONTRACT,
    CUTOFFS,
    GUIDE,
    OUTPUTS,
    Block,
    codes,
    marked,
    span,
    table_rows,
)
from tests.support.in_steps import FileRecord


@marked("json", *(topic.label for topic in Topic))
def test_input_examples_are_accepted(block: Block):
    topic = Topic[block.mark.upper()]
    if topic is Topic.CAMPAIGNS:
        assert wire.Wire(Money("USD")).decode_campaign(block.text.encode()).campaign == "spring-2026"
        return
    customer_id, _ = wire.Wire(Money("USD")).decode(topic, b"c1", block.text.encode())
    assert customer_id == "c1"


@marked("json", *OUTPUTS)
def test_output_examples_have_the_keys_of_the_contract(block: Block):
    shape = OUTPUTS[block.mark]
    example = json.loads(block.text)
    assert list(example) == [field.encode_name for field in msgspec.structs.fields(shape)]
    assert msgspec.to_builtins(msgspec.convert(example, shape)) == example


@marked("json", *OUTPUTS)
def test_output_examples_are_what_the_engine_says(block: Block, tmp_path: Path):
    assert json.loads(block.text) in decided(tmp_path)[block.mark]


def decided(tmp_path: Path) -> dict[str, list[Any]]:
    """What the events of the examples lead to, by the policy of the examples, in the live processor."""
    policy = next(block for block in BLOCKS if block.page == CONTRACT and block.mark == "policy")
    file = tmp_path / "policy.yaml"
    file.write_text(policy.text)
    profile = next(block for block in BLOCKS if block.mark == "customers").text
    bought = [("o1", "01-10", "120.00"), ("o2", "02-20", "150.00"), ("o3", "03-05", "90.00"), ("o4", "04-10", "460.00")]
    orders = [
        {
            "type": "order.placed",
            "order_id": order,
            "customer_id": "c1",
            "occurred_at": f"2026-{day}T10:00:00Z",
            "amount": amount,
        }
        for order, day, amount in bought
    ]
    refund = next(block for block in BLOCKS if block.page == CONTRACT and "order.refunded" in block.text).text
    values = [*(json.dumps(order).encode() for order in orders), refund.encode()]
    timeline = load_timeline(file)
    processor = Processor(timeline, Timing(ahead=10**12, wall_decides=False), Encoder("/tidemark"))
    partition = Partition(0, timeline=timeline.fingerprint)
    now = parse_instant("2026-06-01T00:00:00Z")
    steps = [
        processor.process(partition, Topic.CUSTOMERS, "customers", [FileRecord(0, 0, b"c1", profile.encode())], now)
    ]
    for offset, value in enumerate(values):
        record = FileRecord(offset, 0, b"c1", value)
        steps.append(processor.process(partition, Topic.ORDERS, "orders", [record], now))
    steps.append(processor.advance(partition, Watermark(parse_instant("2027-06-01T00:00:00Z")), now))
    return {
        topic: [json.loads(out.value or b"") for step in steps for out in step.outputs.get(topic, [])]
        for topic in OUTPUTS
    }


@pytest.mark.parametrize(("topic", "shape"), [*OUTPUTS.items(), *CUTOFFS.items()])
def test_output_fields_are_documented(topic: str, shape: Any):
    documented = [name for row in table_rows(CONTRACT, f"### `{topic}`") for name in codes(row[0])]
    assert sorted(documented) == sorted(field.encode_name for field in msgspec.structs.fields(shape))


@marked("json", *CUTOFFS)
def test_cut_offs_are_shown_as_they_are_told(block: Block):
    shown = json.loads(block.text)
    assert msgspec.to_builtins(msgspec.convert(shown, CUTOFFS[block.mark])) == shown


@pytest.mark.parametrize(
    ("topic", "shapes"),
    [
        (Topic.ORDERS, [wire_shapes.PlacedShape, wire_shapes.RefundedShape, wire_shapes.CancelledShape]),
        (Topic.INTERACTIONS, [wire_shapes.InteractionShape]),
        (Topic.CUSTOMERS, [wire_shapes.ProfileShape]),
        (Topic.CAMPAIGNS, [wire_shapes.CampaignShape]),
    ],
)
def test_input_fields_are_documented(topic: Topic, shapes: list[Any]):
    documented = {name for row in table_rows(CONTRACT, f"### `{topic.label}`") for name in codes(row[0])}
    fields = {field.encode_name for shape in shapes for field in msgspec.structs.fields(shape)}
    assert fields | {"type"} == {name for name in documented if "." not in name} | {"type"}


def test_interaction_kinds_are_documented():
    sentence = re.search(r"^Kinds: (.*?)\. Other", CONTRACT.read_text(), re.MULTILINE | re.DOTALL)
    assert sentence is not None
    assert set(codes(sentence[1])) == KNOWN_KINDS


def test_metrics_are_documented():
    assert [codes(row[0])[0] for row in table_rows(CONTRACT, "## Metrics")] == list(METRICS)
    sentence = re.search(r"^Metrics: (.*?)\. Their", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    assert sentence is not None
    assert codes(sentence[1]) == list(METRICS)


def test_bounds_are_those_of_the_code():
    bounds = {row[0]: row[1] for row in table_rows(CONTRACT, "## Bounds")}
    assert bounds["counted orders"] == f"{MAX_ORDERS:,}"
    assert bounds["refunded or cancelled orders"] == f"{MAX_ADJUSTMENTS:,}"
    assert bounds["refunds of one order"] == str(MAX_REFUNDS_OF_ORDER)
    assert bounds["interactions kept"] == f"{MAX_INTERACTIONS:,}"
    assert bounds["events that wait (settled)"] == f"{MAX_PENDING:,}"
    assert bounds["profiles among them"] == str(MAX_PENDING_PROFILES)
    assert bounds["attributes of a profile"] == f"{wire._ATTRIBUTES_MAX_BYTES:,} bytes of JSON"
    channels = msgspec.json.schema(wire_shapes.ConsentShape)["$defs"]["ConsentShape"]["properties"]["channels"]
    assert f'"maxItems": {bounds["channels of a profile"]}' in json.dumps(channels)
    assert bounds["a duration in a policy or setting"] == f"{MAX_DURATION // DAY_MS:,} days"
    assert MAX_MINOR == 10**14


def test_cloudevents_headers_are_documented():
    documented = [codes(row[0])[0] for row in table_rows(CONTRACT, "### CloudEvents headers")]
    assert documented == [name for name, _ in Encoder("/x")._headers("", ("ce_type", b""), "")]


def order(**changes: Any) -> bytes:
    event = {
        "type": "order.placed",
        "order_id": "o1",
        "customer_id": "c1",
        "occurred_at": "2026-03-01T10:00:00Z",
        "amount": "1",
    }
    return json.dumps({**event, **changes}).encode()


BAD_RECORDS: dict[Reason, tuple[Topic, bytes, bytes]] = {
    Reason.TOO_LARGE: (Topic.ORDERS, b"c1", b" " * 70_000),
    Reason.NOT_JSON: (Topic.ORDERS, b"c1", b"oops"),
    Reason.WRONG_TYPE: (
        Topic.INTERACTIONS,
        b"c1",
        b'{"type":"interaction","interaction_id":"i1","customer_id":"c1","occurred_at":"2026-03-01T10:00:00Z","kind":7}',
    ),
    Reason.MISSING_FIELD: (Topic.ORDERS, b"c1", order().replace(b', "amount": "1"', b"")),
    Reason.UNKNOWN_TYPE: (Topic.ORDERS, b"c1", order(type="order.shipped")),
    Reason.KEY_MISMATCH: (Topic.ORDERS, b"c2", order()),
    Reason.BAD_TIME: (Topic.ORDERS, b"c1", order(occurred_at="2026-03-01T10:00:00")),
    Reason.UNKNOWN_CURRENCY: (Topic.ORDERS, b"c1", order(currency="GBP")),
    Reason.NEGATIVE_AMOUNT: (Topic.ORDERS, b"c1", order(amount="-1.00")),
    Reason.BAD_VALUE: (Topic.ORDERS, b"c1", order(amount="1e13")),
    Reason.FIELD_IGNORED: (Topic.CUSTOMERS, b"c1", b'{"customer_id": "c1", "birthday": "1990-13-01"}'),
    Reason.TOO_FAR_AHEAD: (Topic.ORDERS, b"c1", order()),
    Reason.WRONG_PARTITION: (Topic.ORDERS, b"c1", order()),
    Reason.DAMAGED_ROW: (Topic.ORDERS, b"c1", b"oops"),
}


def test_every_reason_is_documented():
    assert {codes(row[0])[0] for row in table_rows(CONTRACT, "### Reasons")} == set(Reason)


@pytest.mark.parametrize("reason", Reason)
def test_reasons_are_given_with_the_details_documented(reason: Reason):
    documented = {codes(row[0])[0]: span(row[2]) for row in table_rows(CONTRACT, "### Reasons")}
    topic, key, value = BAD_RECORDS[reason]
    ahead = reason is Reason.TOO_FAR_AHEAD
    processor = Processor(
        load_timeline(POLICIES / "retail.yaml"),
        Timing(ahead=0 if ahead else DAY_MS),
        Encoder("/tidemark"),
        partition_for=(lambda _key: 0) if reason is Reason.WRONG_PARTITION else None,
    )
    now = parse_instant("2026-02-02T00:00:00Z" if ahead else "2026-06-01T00:00:00Z")
    partition, record = Partition(3), FileRecord(0, 0, key, value)
    if reason is Reason.DAMAGED_ROW:
        effects = processor.restate(partition, [key], "changelog", [(record, row_flaw(value))])
    else:
        effects = processor.process(partition, topic, topic.label, [record], now)
    (letter,) = effects.outputs["dead-letters"]
    headers = {name: text.decode() for name, text in letter.headers}
    assert (headers["reason"], headers["detail"]) == (reason, documented[reason])
    assert (letter.key, letter.value) == (key, value)
    assert set(headers) == {name for row in table_rows(CONTRACT, "## Dead letters") for name in codes(row[0])}
