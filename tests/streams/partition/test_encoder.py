import json

from models.errors import BadRecord, Reason
from models.outputs import CareAction, CustomerTiers, HeldTier, TierChange, Why
from streams.kafka.records import OutputRecord
from streams.partition.encoder import Encoder

CHANGE = TierChange(
    event_id="e1",
    customer_id="änn",
    scheme="loyalty",
    from_tier=None,
    to_tier="silver",
    direction="enter",
    effective_at="2026-05-01T10:00:00Z",
    decided_at="2026-05-01T10:00:01Z",
    sequence=1,
    cause="order",
    policy_version="v1",
    metrics={"monetary": "812.40", "frequency": 7},
    why=[Why("monetary", "812.40", ">=", "800.00", met=True)],
    next=None,
    at_risk=None,
)
ACTION = CareAction(
    action_id="a1",
    rule="birthday-offer",
    kind="birthday_offer",
    customer_id="ann",
    tier="silver",
    channel="email",
    template="birthday",
    locale=None,
    due_at="2026-05-05T09:00:00Z",
    expires_at="2026-05-12T09:00:00Z",
    priority=50,
    holdout=False,
    why=[],
    policy_version="v1",
)


def test_a_tier_change_is_a_cloudevent_in_binary_mode_keyed_by_the_customer() -> None:
    out = Encoder("/shop").tier_change(CHANGE)
    assert out.key == "änn".encode()
    assert out.headers == [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"e1"),
        ("ce_source", b"/shop"),
        ("ce_type", b"tidemark.tier-change.v1"),
        ("ce_time", b"2026-05-01T10:00:00Z"),
        ("content-type", b"application/json"),
    ]
    value = json.loads(out.value)
    assert list(value)[:7] == ["event_id", "customer_id", "scheme", "from", "to", "direction", "effective_at"]
    assert value["why"] == [{"metric": "monetary", "value": "812.40", "op": ">=", "threshold": "800.00", "met": True}]
    assert value["from"] is None
    assert value["next"] is None


def test_a_care_action_is_dated_by_when_it_is_due() -> None:
    out = Encoder("/shop").care_action(ACTION)
    headers = dict(out.headers)
    assert out.key == b"ann"
    assert (headers["ce_id"], headers["ce_type"]) == (b"a1", b"tidemark.care-action.v1")
    assert headers["ce_time"] == b"2026-05-05T09:00:00Z"
    assert json.loads(out.value)["expires_at"] == "2026-05-12T09:00:00Z"


def test_customer_tiers_keep_the_key_of_the_input() -> None:
    tiers = CustomerTiers("ann", "2026-05-01T10:00:00Z", {"loyalty": HeldTier("silver", "2026", 2)}, {}, "v1")
    out = Encoder("/shop").customer_tiers(b"ann", tiers)
    assert out.key == b"ann"
    assert json.loads(out.value)["tiers"] == {"loyalty": {"tier": "silver", "since": "2026", "sequence": 2}}
    assert out.headers == [("content-type", b"application/json")]


def test_a_dead_letter_has_key_and_value_as_they_came() -> None:
    bad = BadRecord(Reason.BAD_VALUE, "kind: found \ud800 " + "x" * 2_000)
    for key, value in ((None, None), (b"", b""), (b"\xff\x00", b"\x00\xfe")):
        out = Encoder("/shop").dead_letter(bad, "t-orders", 3, 17, 1_234, key, value)
        assert (out.key, out.value) == (key, value)
        headers = dict(out.headers)
        assert len(headers["detail"]) == 1_000
        assert headers["detail"].startswith(b"kind: found ?")
        assert {name: headers[name] for name in ("reason", "topic", "partition", "offset", "timestamp")} == {
            "reason": b"bad_value",
            "topic": b"t-orders",
            "partition": b"3",
            "offset": b"17",
            "timestamp": b"1234",
        }


def test_the_same_decision_is_the_same_bytes() -> None:
    assert Encoder("/shop").tier_change(CHANGE) == Encoder("/shop").tier_change(CHANGE)
    assert OutputRecord(b"k", None) == (b"k", None, [])
