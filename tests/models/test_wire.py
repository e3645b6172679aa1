"""What the input topics may carry: every accepted notation, and every reason for which a record is refused."""

import json
from typing import Any

import pytest

from models.customer.state import Customer
from models.errors import BadRecord, Reason
from models.events import Consent, Erasure, Interaction, OrderCancelled, OrderPlaced, OrderRefunded, Profile, Topic
from models.identity import id64
from models.instants import FIRST_NUMBER, LAST_NUMBER, MAX_INSTANT, parse_instant
from models.money import Money
from models.wire import PartialProfile, Wire

WIRE = Wire(Money("USD"), max_bytes=20_000)
AT = "2026-03-01T10:00:00Z"
MS = parse_instant(AT)

ORDER = {"type": "order.placed", "order_id": "o1", "customer_id": "c1", "occurred_at": AT, "amount": "120.00"}
REFUND = {**ORDER, "type": "order.refunded", "refund_id": "r1"}
CONTACT = {"type": "interaction", "interaction_id": "i1", "customer_id": "c1", "occurred_at": AT, "kind": "visit"}
PROFILE = {"customer_id": "c1"}
NONE: Any = object()  # stands for a field that is left out


def value(base: dict[str, Any], **changes: Any) -> bytes:
    fields = {name: field for name, field in {**base, **changes}.items() if field is not NONE}
    return json.dumps(fields).encode()


def raw(base: dict[str, Any], field: str, text: str) -> bytes:
    """Return a record in which one field is written as given, for what `json` would not write."""
    return json.dumps({**base, field: "\x00"}).replace('"\\u0000"', text).encode("utf-8", "surrogatepass")


def read(topic: Topic, data: bytes, key: bytes | None = b"c1") -> Any:
    customer_id, event = WIRE.decode(topic, key, data)
    assert customer_id == "c1"
    return event


def refused(topic: Topic, data: bytes | None, key: bytes | None = b"c1", latest: int = MAX_INSTANT) -> BadRecord:
    with pytest.raises(BadRecord) as caught:
        WIRE.decode(topic, key, data, latest)
    assert caught.value.detail
    return caught.value


# --- accepted -----------------------------------------------------------------------------------


def test_reads_orders_refunds_and_cancellations() -> None:
    placed = value(ORDER, margin="31.50", currency="USD", note={"ignored": [1, None]})
    assert read(Topic.ORDERS, placed) == OrderPlaced(MS, id64("o1"), 12_000, 3_150)
    assert read(Topic.ORDERS, value(ORDER, margin="-0.01")) == OrderPlaced(MS, id64("o1"), 12_000, -1)
    assert read(Topic.ORDERS, value(ORDER)).margin is None
    assert read(Topic.ORDERS, value(REFUND, amount=20)) == OrderRefunded(MS, id64("r1"), id64("o1"), 2_000)
    cancelled = value(ORDER, type="order.cancelled", amount=NONE)
    assert read(Topic.ORDERS, cancelled) == OrderCancelled(MS, id64("o1"))


@pytest.mark.parametrize(
    "occurred_at",
    [AT, MS, "2026-03-01T18:00:00+08:00", "2026-03-01T10:00:00.0009Z", "2026-03-01t10:00:00z", "2026-03-01 10:00:00Z"],
)
def test_reads_instants_in_every_notation(occurred_at: str | int) -> None:
    assert read(Topic.ORDERS, value(ORDER, occurred_at=occurred_at)).at == MS


def test_reads_instants_before_1970() -> None:
    assert read(Topic.ORDERS, value(ORDER, occurred_at="1969-12-31T23:59:59.999Z")).at == -1


def test_reads_interactions_of_known_and_unknown_kinds() -> None:
    assert read(Topic.INTERACTIONS, value(CONTACT)) == Interaction(MS, id64("i1"), "visit")
    survey = value(CONTACT, kind="survey", value=8.5)
    assert read(Topic.INTERACTIONS, survey) == Interaction(MS, id64("i1"), "survey", 8_500)
    assert read(Topic.INTERACTIONS, value(CONTACT, kind="sings")).kind == "sings"
    answer = value(CONTACT, kind="care.opened", action_id="a1")
    assert read(Topic.INTERACTIONS, answer).kind == "care.opened"


def test_an_unknown_kind_needs_no_action_id_whatever_it_is_called() -> None:
    # Only the four answers to an action carry one.
    assert read(Topic.INTERACTIONS, value(CONTACT, kind="care.ignored")).kind == "care.ignored"


def test_reads_profiles() -> None:
    profile = read(
        Topic.CUSTOMERS,
        value(
            PROFILE,
            birthday="1990-02-29",
            timezone="Asia/Shanghai",
            locale="zh-CN",
            consent={"marketing": True, "channels": ["sms", "email"]},
            registered_at=MS - 2,
            updated_at=MS,
            attributes={"region": "East"},
        ),
    )
    consent = Consent(True, ("sms", "email"))
    assert profile == Profile(MS, "1990-02-29", "Asia/Shanghai", "zh-CN", consent, MS - 2, {"region": "East"}, MS)
    assert read(Topic.CUSTOMERS, value(PROFILE, registered_at=MS)).at == MS
    assert read(Topic.CUSTOMERS, value(PROFILE)).at is None


@pytest.mark.parametrize(
    "birthday", ["1990-02-29", "2000-12-31", "--02-29", "--01-01", "lunar:08-15", "lunar:02-30", "lunar:12-30"]
)
def test_reads_birthdays(birthday: str) -> None:
    assert read(Topic.CUSTOMERS, value(PROFILE, birthday=birthday)).birthday == birthday


@pytest.mark.parametrize("name", ["c1", "顾客", " "])
def test_no_value_on_customers_erases(name: str) -> None:
    assert WIRE.decode(Topic.CUSTOMERS, name.encode(), None) == (name, Erasure())


def test_records_of_files_have_no_key() -> None:
    assert read(Topic.ORDERS, value(ORDER), key=None).order == id64("o1")


# --- profiles with odd fields -------------------------------------------------------------------

WITHDRAWAL = {"customer_id": "c1", "updated_at": AT, "consent": {"marketing": False}}


def partial(data: bytes) -> BadRecord:
    """Return what is noted of a profile that is taken without some fields, alone and in a batch; consent is kept."""
    found = WIRE.decode(Topic.CUSTOMERS, b"c1", data)
    assert isinstance(found, PartialProfile)
    profile = found[1]
    assert isinstance(profile, Profile)
    assert (profile.updated_at, profile.consent) == (MS, Consent(False))
    first, second = WIRE.decode_batch(Topic.CUSTOMERS, [data, value(WITHDRAWAL)], [b"c1", b"c1"])
    assert first == found
    assert isinstance(first, PartialProfile)
    assert second == ("c1", Profile(MS, consent=Consent(False), updated_at=MS))
    assert found.note.reason is first.note.reason is Reason.FIELD_IGNORED
    return found.note


ODD_FIELDS: dict[str, tuple[object, ...]] = {
    "birthday": (
        *("1990-02-30", "1990-13-01", "1990-00-10", "1990-2-3", "90-02-03", "02-03", "--02-30", "1990-02-29\n"),
        *("lunar:01-31", "lunar:13-01", "lunar:02-00", "1990-02-2٩", 19900229),
    ),
    "timezone": ("Mars/Olympus", "../../etc/passwd", "+08:00", 8),
    "locale": ("x" * 65, 7, []),
    "registered_at": ("2026-03-01T10:00:00", "yesterday", 1_772_359_200, 20260301, True),
    "attributes": ([], "x", {"a": "x" * 5_000}),
}


@pytest.mark.parametrize(("field", "odd"), [(field, odd) for field, several in ODD_FIELDS.items() for odd in several])
def test_takes_a_profile_without_an_odd_field_and_notes_it(field: str, odd: object) -> None:
    assert field in partial(value(WITHDRAWAL, **{field: odd})).detail


def test_notes_all_odd_fields_of_a_profile_and_keeps_the_others() -> None:
    data = value(WITHDRAWAL, birthday="1990-02-30", timezone="Mars/Olympus", locale="de", attributes={"a": 1})
    assert partial(data).detail == (
        "birthday: allowed are YYYY-MM-DD, --MM-DD and lunar:MM-DD; "
        "timezone: 'Mars/Olympus' is not an IANA time zone such as Europe/Paris"
    )
    profile = read(Topic.CUSTOMERS, data)
    assert (profile.birthday, profile.timezone, profile.locale, profile.attributes) == (None, None, "de", {"a": 1})


@pytest.mark.parametrize("field", ["birthday", "timezone", "locale", "registered_at", "attributes"])
def test_an_empty_field_of_a_profile_is_absent(field: str) -> None:
    found = WIRE.decode(Topic.CUSTOMERS, b"c1", value(WITHDRAWAL, **{field: ""}))
    assert type(found) is tuple
    assert found == ("c1", Profile(MS, consent=Consent(False), updated_at=MS))


@pytest.mark.parametrize(
    ("topic", "record", "names"),
    [
        (Topic.ORDERS, ORDER, ("order_id",)),
        (Topic.ORDERS, {**ORDER, "type": "order.refunded", "refund_id": 7}, ("order_id", "refund_id")),
        (Topic.ORDERS, {**ORDER, "type": "order.cancelled"}, ("order_id",)),
        (Topic.INTERACTIONS, {**CONTACT, "kind": "care.opened"}, ("interaction_id", "action_id")),
        (Topic.CUSTOMERS, PROFILE, ()),
    ],
)
def test_whole_numbers_are_ids_everywhere(topic: Topic, record: dict[str, Any], names: tuple[str, ...]) -> None:
    numbers = {name: 450_789_469 + place for place, name in enumerate(("customer_id", *names))}
    texts = {name: str(number) for name, number in numbers.items()}
    as_text = WIRE.decode(topic, b"450789469", value(record, **texts))
    assert WIRE.decode(topic, b"450789469", value(record, **numbers)) == as_text
    assert WIRE.decode_batch(topic, [value(record, **numbers)] * 2, [b"450789469"] * 2) == [as_text] * 2
    assert as_text[0] == "450789469"
    assert refused(topic, value(record, **numbers), b"450789460").reason is Reason.KEY_MISMATCH


def test_a_campaign_may_have_a_number() -> None:
    campaign = {"type": "campaign", "campaign_id": 5, "occurred_at": "2026-03-01T00:00:00Z", "subject": "launch"}
    assert WIRE.decode_campaign(value(campaign)).campaign == "5"


@pytest.mark.parametrize("number", [-1, 2**63, 2**64, 10**300])
def test_numbers_beyond_64_bits_or_below_zero_are_no_ids(number: int) -> None:
    assert refused(Topic.ORDERS, value(ORDER, order_id=number)).reason is Reason.BAD_VALUE


NO_IDS = {
    **dict.fromkeys(("NULL", "None", "nan", "\\N", "<NA>", "#N/A"), Reason.MISSING_FIELD),
    **dict.fromkeys((" c1", "c1\t", "17850.0", "4.50789E+12", "4,50789E+12", "b'c1'", 'b"c1"'), Reason.BAD_VALUE),
}


@pytest.mark.parametrize(("text", "reason"), NO_IDS.items())
def test_a_customer_of_a_file_has_an_id(text: str, reason: Reason) -> None:
    with pytest.raises(BadRecord) as caught:
        WIRE.decode(Topic.ORDERS, None, value(ORDER, customer_id=text))
    assert caught.value.reason is reason
    assert caught.value.detail.startswith("customer_id: found ")
    assert WIRE.decode(Topic.ORDERS, text.encode(), value(ORDER, customer_id=text))[0] == text


@pytest.mark.parametrize("name", ["order_id", "refund_id"])
def test_the_other_ids_of_a_file_are_ids_too(name: str) -> None:
    refund = {**ORDER, "type": "order.refunded", "refund_id": "r1"}
    for text, reason in NO_IDS.items():
        with pytest.raises(BadRecord, match=f"{name}: found ") as caught:
            WIRE.decode(Topic.ORDERS, None, value(refund, **{name: text}))
        assert caught.value.reason is reason
    WIRE.decode(Topic.ORDERS, None, value(refund))


@pytest.mark.parametrize("text", ["nancy", "1001.1", "12E45", "b'c", "NULL-1", "a b", "ann@example.com", "-1", "Nadia"])
def test_ids_that_only_resemble_such_are_ids(text: str) -> None:
    assert WIRE.decode(Topic.ORDERS, None, value(ORDER, customer_id=text))[0] == text


def test_channels_are_compared_without_case_and_blanks() -> None:
    consent = {"marketing": True, "channels": [" SMS", "email "]}
    _, profile = WIRE.decode(Topic.CUSTOMERS, b"c1", value(PROFILE, consent=consent))
    assert isinstance(profile, Profile)
    assert profile.consent == Consent(marketing=True, channels=("sms", "email"))


def test_odd_channels_allow_none_and_empty_consent_is_none() -> None:
    for channels in ("sms", ["sms", ""], ["x"] * 17):
        found = WIRE.decode(Topic.CUSTOMERS, b"c1", value(PROFILE, consent={"marketing": True, "channels": channels}))
        assert isinstance(found, PartialProfile)
        assert isinstance(found[1], Profile)
        assert found[1].consent == Consent(True, ())
        assert found.note.detail.endswith("; none is allowed")
    assert read(Topic.CUSTOMERS, value(PROFILE, consent="", updated_at="")) == Profile(None)


@pytest.mark.parametrize("consent", [True, "yes", [], {"marketing": 1}, {"marketing": "no"}])
def test_a_profile_whose_consent_cannot_be_read_is_refused(consent: object) -> None:
    assert refused(Topic.CUSTOMERS, value(PROFILE, consent=consent, birthday="")).reason is Reason.WRONG_TYPE


# --- refused ------------------------------------------------------------------------------------

NOT_JSON = {
    "empty": b"",
    "text": b"hello",
    "cut off": value(ORDER)[:-2],
    "trailing garbage": value(ORDER) + b" x",
    "two records": value(ORDER) + value(ORDER),
    "NaN": raw(ORDER, "amount", "NaN"),
    "Infinity": raw(ORDER, "amount", "-Infinity"),
    "beyond doubles": raw(ORDER, "amount", "1e400"),
    "thousands of digits": raw(ORDER, "amount", "9" * 6_000),
    "single quotes": b"{'type': 'order.placed'}",
    "invalid UTF-8": value(ORDER).replace(b"o1", b"o\xff"),
    "UTF-16": json.dumps(ORDER).encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + value(ORDER),
    "half a surrogate pair": raw(ORDER, "order_id", '"\\ud800"'),
    "the other half": raw(ORDER, "customer_id", '"\\udc00"'),
    "a raw surrogate": raw(ORDER, "order_id", '"\ud800"'),
    "a raw control character": value(ORDER).replace(b"o1", b"o\n"),
    "nested beyond reason": raw(ORDER, "note", "[" * 9_000 + "]" * 9_000),
}


@pytest.mark.parametrize("data", NOT_JSON.values(), ids=NOT_JSON.keys())
def test_refuses_what_is_not_json(data: bytes) -> None:
    assert refused(Topic.ORDERS, data).reason is Reason.NOT_JSON


def test_no_value_means_nothing_but_on_customers() -> None:
    assert refused(Topic.ORDERS, None).reason is Reason.NOT_JSON
    assert refused(Topic.INTERACTIONS, None).reason is Reason.NOT_JSON


@pytest.mark.parametrize(
    ("topic", "data"),
    [
        (Topic.ORDERS, b"null"),
        (Topic.CUSTOMERS, b"null"),  # JSON's null is a value; erasing takes a record without one
        (Topic.ORDERS, b"[]"),
        (Topic.ORDERS, b'"order"'),
        (Topic.ORDERS, value(ORDER, type=5)),
        (Topic.ORDERS, value(ORDER, order_id=17.0)),
        (Topic.ORDERS, value(ORDER, customer_id=4.50789e12)),
        (Topic.ORDERS, value(ORDER, customer_id=True)),
        (Topic.ORDERS, value(ORDER, customer_id=None)),
        (Topic.ORDERS, value(ORDER, amount=True)),
        (Topic.ORDERS, value(ORDER, amount=None)),
        (Topic.ORDERS, value(ORDER, amount=["1"])),
        (Topic.ORDERS, value(ORDER, amount="NaN")),
        (Topic.ORDERS, value(ORDER, amount="1_000")),
        (Topic.ORDERS, value(ORDER, margin="much")),
        (Topic.ORDERS, value(ORDER, currency=840)),
        (Topic.INTERACTIONS, value(CONTACT, kind=None)),
        (Topic.INTERACTIONS, value(CONTACT, kind="survey", value=True)),
        (Topic.INTERACTIONS, value(CONTACT, kind="survey", value="9")),
        (Topic.CUSTOMERS, value(PROFILE, consent=True)),
        (Topic.CUSTOMERS, value(PROFILE, consent={"marketing": 1})),
    ],
)
def test_refuses_wrong_types(topic: Topic, data: bytes) -> None:
    assert refused(topic, data).reason is Reason.WRONG_TYPE


@pytest.mark.parametrize(
    ("topic", "data"),
    [(Topic.ORDERS, value(ORDER, **{name: NONE})) for name in ORDER]
    + [(Topic.ORDERS, value(REFUND, refund_id=NONE)), (Topic.ORDERS, b"{}"), (Topic.CUSTOMERS, b"{}")]
    + [(Topic.INTERACTIONS, value(CONTACT, **{name: NONE})) for name in CONTACT if name != "type"]
    + [(Topic.INTERACTIONS, value(CONTACT, kind="survey"))]
    + [(Topic.INTERACTIONS, value(CONTACT, kind=f"care.{done}")) for done in ("delivered", "opened", "converted")]
    + [(Topic.INTERACTIONS, value(CONTACT, kind="care.clicked", action_id=None))],
)
def test_refuses_missing_fields(topic: Topic, data: bytes) -> None:
    assert refused(topic, data).reason is Reason.MISSING_FIELD


def test_refuses_unknown_types_and_types_of_another_topic() -> None:
    assert refused(Topic.ORDERS, value(ORDER, type="order.shipped")).reason is Reason.UNKNOWN_TYPE
    assert refused(Topic.ORDERS, value(CONTACT)).reason is Reason.UNKNOWN_TYPE
    assert refused(Topic.INTERACTIONS, value(ORDER)).reason is Reason.UNKNOWN_TYPE


@pytest.mark.parametrize(
    "occurred_at",
    [
        "2026-03-01T10:00:00",
        "2026-03-01",
        "2026-02-30T10:00:00Z",
        "2026-03-01T25:00:00Z",
        "2026-03-01T23:59:60Z",
        "1772359200000",
        "",
        True,
        None,
        1.5,
        1e12,
        [],
        10**30,
        -(10**17),
        MAX_INSTANT + 1,
        "9999-12-31T23:59:59Z",
        "0001-01-01T00:00:00+14:00",
        "12026-03-01T10:00:00Z",
    ],
)
def test_refuses_what_is_not_an_instant(occurred_at: object) -> None:
    assert refused(Topic.ORDERS, value(ORDER, occurred_at=occurred_at)).reason is Reason.BAD_TIME


@pytest.mark.parametrize(
    ("number", "detail"),
    [
        (1_772_359_200, "looks like epoch seconds: multiply by 1000"),
        (1_772_359_200_000_000, "looks like epoch microseconds: divide by 1000"),
        (1_772_359_200_000_000_000, "looks like epoch nanoseconds: divide by 1000000"),
        (20260301, "looks like a date written 20260301"),
        (202603011000, "looks like a date written 202603011000"),
        (20260301100000, "looks like a date written 20260301100000"),
        (46_082, "looks like the number of 2026-03-01 in a spreadsheet: write the date"),
        (FIRST_NUMBER - 1, "is before 1980 as epoch milliseconds"),
        (0, "is before 1980 as epoch milliseconds"),
        (-1, "is before 1980 as epoch milliseconds"),
        (MAX_INSTANT + 1, "is after the year 8999 as epoch milliseconds"),
        (10**40, "found a number of more than 30 digits, is after the year 8999 as epoch milliseconds"),
    ],
)
def test_refuses_numbers_of_other_units_and_says_what_they_look_like(number: int, detail: str) -> None:
    bad = refused(Topic.ORDERS, value(ORDER, occurred_at=number))
    assert bad.reason is Reason.BAD_TIME
    assert bad.detail.startswith("occurred_at: found ")
    assert detail in bad.detail
    updated = refused(Topic.CUSTOMERS, value(PROFILE, updated_at=number))
    assert updated.reason is Reason.BAD_TIME
    assert updated.detail == bad.detail.replace("occurred_at", "updated_at")


@pytest.mark.parametrize("number", [FIRST_NUMBER, LAST_NUMBER, 20269901100000, MAX_INSTANT])
def test_reads_numbers_of_milliseconds_from_1980_on(number: int) -> None:
    assert read(Topic.ORDERS, value(ORDER, occurred_at=number)).at == number


def test_refuses_profiles_with_naive_times() -> None:
    assert refused(Topic.CUSTOMERS, value(PROFILE, updated_at="2026-03-01T10:00:00")).reason is Reason.BAD_TIME


@pytest.mark.parametrize(
    ("topic", "data"),
    [(Topic.ORDERS, value(ORDER, order_id="")), (Topic.ORDERS, value(ORDER, order_id="x" * 257))]
    + [(Topic.ORDERS, value(ORDER, amount="1e13")), (Topic.ORDERS, value(ORDER, margin="-1e13"))]
    + [(Topic.INTERACTIONS, value(CONTACT, kind="survey", value=score)) for score in (-1, 10.001, 11)]
    + [(Topic.INTERACTIONS, value(CONTACT, value=1e10)), (Topic.INTERACTIONS, value(CONTACT, kind="x" * 65))],
)
def test_refuses_values_out_of_bounds(topic: Topic, data: bytes) -> None:
    assert refused(topic, data).reason is Reason.BAD_VALUE


def test_a_score_of_exactly_zero_or_ten_is_within_bounds() -> None:
    scores = [read(Topic.INTERACTIONS, value(CONTACT, kind="survey", value=score)).value for score in (0, 10)]
    assert scores == [0, 10_000]


HUGE_ATTRIBUTES = {
    "an integer beyond 64 bits": '{"a": 1000000000000000000000000000000}',
    "one within a list": '{"a": [{"b": -18446744073709551616}]}',
    "deep lists": '{"a": ' + "[" * 200 + "]" * 200 + "}",
    "deep objects": '{"a": ' * 200 + "1" + "}" * 200,
}


@pytest.mark.parametrize("text", HUGE_ATTRIBUTES.values(), ids=HUGE_ATTRIBUTES.keys())
def test_ignores_attributes_that_a_state_row_cannot_hold(text: str) -> None:
    assert partial(raw(WITHDRAWAL, "attributes", text)).detail.startswith("attributes: allowed are ")


@pytest.mark.parametrize("attributes", [{"a": 2**64 - 1, "b": -(2**63)}, {"a": {"b": [1.5, None, True, {"c": "d"}]}}])
def test_attributes_that_are_accepted_come_back_from_a_state_row(attributes: dict[str, Any]) -> None:
    customer = Customer("c1")
    customer.profile = read(Topic.CUSTOMERS, value(PROFILE, attributes=attributes))
    restored = Customer.from_row("c1", customer.to_row()).profile
    assert restored is not None
    assert restored.attributes == attributes


@pytest.mark.parametrize("amount", ["-0.01", -5, "-1e3"])
def test_refuses_negative_amounts(amount: object) -> None:
    assert refused(Topic.ORDERS, value(ORDER, amount=amount)).reason is Reason.NEGATIVE_AMOUNT
    assert refused(Topic.ORDERS, value(REFUND, amount=amount)).reason is Reason.NEGATIVE_AMOUNT


def test_refuses_currencies_without_a_rate() -> None:
    assert refused(Topic.ORDERS, value(ORDER, currency="EUR")).reason is Reason.UNKNOWN_CURRENCY
    assert refused(Topic.ORDERS, value(REFUND, currency="EUR")).reason is Reason.UNKNOWN_CURRENCY


def test_refuses_what_lies_too_far_ahead_to_the_millisecond() -> None:
    assert WIRE.decode(Topic.ORDERS, b"c1", value(ORDER), MS)[0] == "c1"
    assert refused(Topic.ORDERS, value(ORDER), latest=MS - 1).reason is Reason.TOO_FAR_AHEAD
    profile = value(PROFILE, updated_at=AT)
    assert refused(Topic.CUSTOMERS, profile, latest=MS - 1).reason is Reason.TOO_FAR_AHEAD


@pytest.mark.parametrize("key", [b"", b"c2", b"C1", b"c1 ", b"\xff", b'"c1"'])
def test_refuses_keys_other_than_the_customer_id(key: bytes) -> None:
    assert refused(Topic.ORDERS, value(ORDER), key).reason is Reason.KEY_MISMATCH


def test_refuses_customer_ids_with_nul_with_a_key_and_without() -> None:
    data = value(ORDER, customer_id="\0progress/0")
    assert refused(Topic.ORDERS, data, b"\0progress/0").reason is Reason.KEY_MISMATCH
    assert refused(Topic.ORDERS, data, None).reason is Reason.KEY_MISMATCH


@pytest.mark.parametrize("key", [None, b"", b"\xff", b"\x00progress/0"])
def test_refuses_to_erase_what_is_no_customer(key: bytes | None) -> None:
    assert refused(Topic.CUSTOMERS, None, key).reason is Reason.KEY_MISMATCH


def test_refuses_values_over_the_limit_by_one_byte() -> None:
    size = len(value(ORDER))
    assert Wire(Money("USD"), size).decode(Topic.ORDERS, b"c1", value(ORDER))[0] == "c1"
    with pytest.raises(BadRecord) as caught:
        Wire(Money("USD"), size - 1).decode(Topic.ORDERS, b"c1", value(ORDER))
    assert caught.value.reason is Reason.TOO_LARGE


def test_of_a_field_that_is_there_twice_the_last_one_counts() -> None:
    twice = value(ORDER)[:-1] + b',"amount":"7.00","customer_id":"c2"}'
    customer_id, event = WIRE.decode(Topic.ORDERS, b"c2", twice)
    assert (customer_id, event.amount) == ("c2", 700)
    assert refused(Topic.ORDERS, twice, b"c1").reason is Reason.KEY_MISMATCH
    assert refused(Topic.ORDERS, value(ORDER)[:-1] + b',"amount":"-1"}').reason is Reason.NEGATIVE_AMOUNT


def test_details_name_fields_and_no_customer() -> None:
    for topic, data in (
        (Topic.ORDERS, value(ORDER, customer_id="ann@example.org", amount=True)),
        (Topic.ORDERS, value(ORDER, customer_id="ann@example.org")),
    ):
        assert "ann" not in refused(topic, data, b"c1").detail


def test_records_decoded_at_once_come_to_what_each_of_them_comes_to() -> None:
    good = [
        b'{"type":"order.placed","order_id":"o","customer_id":"c","occurred_at":1772359200001,"amount":"1.00"}',
        b'{"type":"order.cancelled","order_id":"o","customer_id":"c","occurred_at":1772359200002}',
        b'{"type":"order.placed","order_id":"p","customer_id":"c","occurred_at":1772359200003,"amount":"-1.00"}',
    ]
    spoilt: list[list[bytes | None]] = [
        *([bad] for bad in (b" ", b"", b"{}{}", b"[]", b"\xff", good[0][:-1], good[0] + b" " * 65_536)),
        [good[0] + good[1]],
        [good[0].replace(b",", b",\n")],
        [good[0] + b"\n" + good[1], b""],  # as many documents as values
        [good[0][:-1] + b",", b'"more":1}', good[0] + good[1]],  # as many documents as values, and none where it seems
        [None],
    ]
    wire = Wire(Money("USD", {}))

    def alone(value: bytes | None, key: bytes | None) -> object:
        try:
            return wire.decode(Topic.ORDERS, key, value, 2)
        except BadRecord as bad:
            return bad.reason, bad.detail

    for values in (good, *([*good, *bad, good[1]] for bad in spoilt)):
        for keys in (None, [b"c"] * len(values), [b"c", b"d", None, *[b"c"] * (len(values) - 3)]):
            found = wire.decode_batch(Topic.ORDERS, values, keys, 2)
            shown = [(each.reason, each.detail) if isinstance(each, BadRecord) else each for each in found]
            records = zip(values, [None] * len(values) if keys is None else [key or b"" for key in keys], strict=True)
            assert shown == [alone(value, key) for value, key in records]


@pytest.mark.parametrize("key", [b"17", None])
def test_integers_are_ids(key: bytes | None) -> None:
    wire = WIRE
    for topic, fields, ids in (
        (Topic.ORDERS, ORDER, ("order_id", "customer_id")),
        (Topic.INTERACTIONS, CONTACT, ("interaction_id", "customer_id")),
        (Topic.CUSTOMERS, PROFILE, ("customer_id",)),
    ):
        numbers = value(fields, **dict.fromkeys(ids, 17))
        texts = value(fields, **dict.fromkeys(ids, "17"))
        expected = wire.decode(topic, key, texts)
        assert expected[0] == "17"
        assert wire.decode(topic, key, numbers) == expected
        keys = None if key is None else [key] * 3
        assert wire.decode_batch(topic, [texts, numbers, texts], keys) == [expected] * 3
    odd = value(PROFILE, customer_id=17, birthday="soon")
    assert wire.decode(Topic.CUSTOMERS, key, odd)[0] == "17"
