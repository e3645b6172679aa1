import json

import msgspec

from models.outputs import CareAction, CustomerTiers, TierChange
from tests.models.build import Run, day, order, policy, tiers


def test_a_tier_change_has_exactly_the_fields_of_the_contract() -> None:
    run = Run(policy(tiers({"frequency": ">= 1"}, {"frequency": ">= 2"}))).take(order(day(0), "a"))
    assert json.loads(msgspec.json.encode(run.changes[0])) == {
        "event_id": run.changes[0].event_id,
        "customer_id": "c1",
        "scheme": "loyalty",
        "from": None,
        "to": "t1",
        "direction": "enter",
        "effective_at": "2026-01-01T00:00:00Z",
        "decided_at": "2026-01-01T00:00:00Z",
        "sequence": 1,
        "cause": "order",
        "policy_version": "test-1",
        "metrics": {"recency_days": 0.0, "frequency": 1, "monetary": "10.00"},
        "why": [{"metric": "frequency", "value": 1, "op": ">=", "threshold": 1, "met": True}],
        "next": {"tier": "t2", "needs": [{"metric": "frequency", "missing": 1}]},
        "at_risk": {"tier": "t0", "on": "2026-04-11T00:00:00Z"},
    }


def test_the_fields_of_the_other_outputs() -> None:
    def names(kind: type[msgspec.Struct]) -> list[str]:
        return [field.encode_name for field in msgspec.structs.fields(kind)]

    assert names(TierChange)[3:5] == ["from", "to"]
    assert names(CustomerTiers) == ["customer_id", "as_of", "tiers", "metrics", "policy_version"]
    assert names(CareAction) == (
        [
            "action_id",
            "rule",
            "kind",
            "customer_id",
            "tier",
            "channel",
            "template",
            "locale",
            "due_at",
            "expires_at",
            "priority",
            "holdout",
            "why",
            "policy_version",
        ]
    )
