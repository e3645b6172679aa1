"""Care rules and governance as a file writes them: every mistake with the path of its key."""

import re
from typing import Any

import pytest
from pydantic import ValidationError

from config.policy_files import check_file
from models.policy.spec import PolicySpec

SCHEMES = {
    "loyalty": {"tiers": [{"name": "low"}, {"name": "high", "when": {"monetary": ">= 100"}}]},
    "stage": {"kind": "lifecycle"},
}


def document(care: dict[str, Any], governance: dict[str, Any] | None = None) -> dict[str, Any]:
    rule = {"name": "r", "kind": "note", **care}
    return {"version": "1", "currency": "USD", "schemes": SCHEMES, "care": [rule], "governance": governance or {}}


def mistakes(care: dict[str, Any], governance: dict[str, Any] | None, tmp_path: Any) -> list[str]:
    import yaml

    file = tmp_path / "policy.yaml"
    file.write_text(yaml.safe_dump(document(care, governance)))
    return check_file(file)


BIRTHDAY = {"trigger": "birthday"}


@pytest.mark.parametrize(
    ("care", "governance", "expected"),
    [
        ({**BIRTHDAY, "tiers": ["gold"]}, None, "care.0.tiers: found 'gold', allowed: low, high"),
        (
            {**BIRTHDAY, "scheme": "stage", "tiers": ["low"]},
            None,
            "care.0.tiers: found 'low', allowed: churned, dormant",
        ),
        ({**BIRTHDAY, "channel": {"high": "sms"}}, None, "care.0.channel.default: missing"),
        ({**BIRTHDAY, "channel": {"default": "sms", "gold": "sms"}}, None, "care.0.channel: found 'gold'"),
        ({**BIRTHDAY, "channel": []}, None, "care.0.channel.default"),
        ({**BIRTHDAY, "group": "g"}, None, "care.0.group: found 'g', allowed: none, governance.groups names them"),
        ({**BIRTHDAY, "holdout": "100%"}, None, "care.0.holdout: found '100%'"),
        ({**BIRTHDAY, "cooldown": "0d"}, None, "care.0.cooldown"),
        ({**BIRTHDAY, "leap_month": "both"}, None, "care.0.leap_month"),
        ({"trigger": "near_upgrade", "scheme": "stage"}, None, "care.0.scheme: 'stage' is not a ladder"),
        ({"trigger": "calendar"}, None, "care.0.weekdays: found none"),
        ({"trigger": "calendar", "month_days": [32]}, None, "care.0.month_days.0"),
        (
            {"trigger": "churn", "levels": {"a": "3", "b": "2"}},
            None,
            "care.0.levels: found 3, 2, allowed are rising multiples",
        ),
        ({"trigger": "churn", "levels": {"a": "0"}}, None, "care.0.levels.a"),
        ({"trigger": "dormant", "after": "30d", "times": 2}, None, "care.0.times: allowed with every"),
        ({"trigger": "win_back", "after": "30d", "every": "9d"}, None, "care.0.times: allowed with every"),
        ({"trigger": "holiday", "calendar": "XX", "holidays": ["x"]}, None, "care.0.calendar: found 'XX'"),
        (
            {"trigger": "holiday", "calendar": "US-ZZ", "holidays": ["x"]},
            None,
            "care.0.calendar: found 'US-ZZ', allowed parts",
        ),
        (
            {"trigger": "holiday", "calendar": "CN", "holidays": ["Yule"]},
            None,
            "care.0.holidays.0: found 'Yule', allowed is",
        ),
        (
            {"trigger": "holiday", "calendar": {"attribute": "a", "values": {"x": "QQ"}}, "holidays": ["x"]},
            None,
            "care.0.calendar.values.x: found 'QQ'",
        ),
        (BIRTHDAY, {"quiet_hours": {"since": "08:00", "until": "08:00"}}, "governance.quiet_hours.until: found 08:00"),
        (BIRTHDAY, {"quiet_hours": {"since": 1260, "until": "08:00"}}, "governance.quiet_hours.since"),
        (BIRTHDAY, {"caps": [{"at_most": 0, "per": "7d"}]}, "governance.caps.0.at_most"),
        (BIRTHDAY, {"caps": [{"at_most": 1, "per": "7d", "kinds": ["x"]}]}, "governance.caps.0.kinds: no care rule"),
        (
            BIRTHDAY,
            {"budgets": [{"name": "b", "at_most": 1, "period": "month", "tiers": ["x"]}]},
            "governance.budgets.0.tiers: no scheme has the tier 'x'",
        ),
        (BIRTHDAY, {"budgets": [{"name": "b", "at_most": 1, "period": "moon"}]}, "governance.budgets.0.period"),
        (
            BIRTHDAY,
            {"budgets": [{"name": "b", "at_most": 1, "period": "day"}, {"name": "b", "at_most": 1, "period": "day"}]},
            "governance.budgets.0.name: 'b' occurs twice",
        ),
        (BIRTHDAY, {"budget": []}, "governance.budget"),
    ],
)
def test_a_mistake_is_reported_at_its_key(
    care: dict[str, Any], governance: dict[str, Any] | None, expected: str, tmp_path: Any
) -> None:
    found = mistakes(care, governance, tmp_path)
    assert found
    assert re.sub(r"^line \d+, ", "", found[0]).startswith(expected), found


def test_channels_may_be_written_short() -> None:
    def channels(written: Any) -> Any:
        return PolicySpec.model_validate(document({**BIRTHDAY, "channel": written})).care[0].channel

    assert channels("sms") == {"default": ["sms"]}
    assert channels(["sms", "email"]) == {"default": ["sms", "email"]}
    assert channels({"default": "sms", "high": ["phone", "sms"]}) == {"default": ["sms"], "high": ["phone", "sms"]}


def test_the_schema_for_editors_knows_every_trigger() -> None:
    schema = PolicySpec.model_json_schema()
    known = schema["properties"]["care"]["items"]["discriminator"]["mapping"]
    assert {"birthday", "holiday", "near_upgrade", "call_back", "campaign"} <= known.keys()
    with pytest.raises(ValidationError):
        PolicySpec.model_validate(document({"trigger": "moon"}))
