"""Builders for care tests: rules, customers, events, and what was sent."""

from typing import Any

from models.events import Consent, Profile
from models.instants import parse_instant
from models.policy.compiled import Policy
from tests.models.build import Run, policy, tiers

WILLING = Consent(marketing=True)
#: Silver from 100.00 on, gold from 300.00 on, in 100 days; nobody is kept.
LADDER = {
    "tiers": [
        {"name": "basic"},
        {"name": "silver", "when": {"monetary": ">= 100"}},
        {"name": "gold", "when": {"monetary": ">= 300"}},
    ]
}


def at(text: str) -> int:
    return parse_instant(text)


def rule(trigger: str, **more: Any) -> dict[str, Any]:
    """Return a care rule named after its trigger. It needs no consent unless given."""
    return {"name": trigger.replace("_", "-"), "kind": "note", "trigger": trigger, "consent": "not_needed", **more}


def care_policy(*rules: dict[str, Any], governance: dict[str, Any] | None = None, **more: Any) -> Policy:
    return policy(more.pop("scheme", LADDER), *rules, governance=governance or {}, **more)


def run(*rules: dict[str, Any], governance: dict[str, Any] | None = None, **more: Any) -> Run:
    return Run(care_policy(*rules, governance=governance, **more))


def profile(updated_at: str, birthday: str | None = None, **more: Any) -> Profile:
    instant = parse_instant(updated_at)
    return Profile(instant, birthday, updated_at=instant, **{"consent": WILLING, **more})


def sent(run: Run) -> list[tuple[str, str]]:
    """Return (rule, instant) of every action, in order."""
    return [(action.rule, action.due_at) for action in run.actions]


def dues(run: Run) -> list[str]:
    return [action.due_at for action in run.actions]


__all__ = ["LADDER", "WILLING", "at", "care_policy", "dues", "profile", "rule", "run", "sent", "tiers"]
