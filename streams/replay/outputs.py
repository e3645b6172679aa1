"""The files that a replay writes: one JSON object a line, in one order, byte-identical from run to run."""

import base64
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import orjson

from models.customer.state import Customer
from models.engine.decide import Engine
from models.instants import format_instant
from models.outputs import CareAction, TierChange
from models.policy.timeline import Timeline


def final_line(engine: Engine, customer: Customer, until: int | None) -> bytes:
    """Return a line of `customers.jsonl`: what `customer-tiers` says as of `until` (ms), and the counters."""
    at = until if customer.cursor is None or until is None else max(until, customer.cursor)
    tiers = engine.tiers(customer, at)
    if tiers is None:
        known = orjson.dumps({"customer_id": customer.customer_id, "tiers": {}, "metrics": {}})
    else:
        known = msgspec.json.encode(tiers)
    return b'%b,"counters":%b}' % (known[:-1], orjson.dumps(msgspec.structs.asdict(customer.counters)))


class Figures(msgspec.Struct):
    """The counts of a summary. Those of several parts of a history add up.

    `held_out` is a part of `by_rule`; `refused` is by rule and reason.
    """

    events: dict[str, int] = {}
    after_until: int = 0
    after_now: int = 0
    customers: int = 0
    tiers: dict[str, dict[str, int]] = {}
    by_direction: dict[str, int] = {}
    by_cause: dict[str, int] = {}
    by_rule: dict[str, int] = {}
    held_out: dict[str, int] = {}
    refused: dict[str, dict[str, int]] = {}
    by_reason: dict[str, int] = {}
    notes: dict[str, int] = {}

    def add(self, other: "Figures") -> None:
        """Add what another part counted."""
        self.after_until += other.after_until
        self.after_now += other.after_now
        self.customers += other.customers
        for name in ("events", "by_direction", "by_cause", "by_rule", "held_out", "by_reason", "notes"):
            setattr(self, name, dict(Counter(getattr(self, name)) + Counter(getattr(other, name))))
        for mine, theirs in ((self.tiers, other.tiers), (self.refused, other.refused)):
            for name, counts in theirs.items():
                mine[name] = dict(Counter(mine.get(name, {})) + Counter(counts))


def count_decisions(
    changes: Iterable[TierChange], actions: Iterable[CareAction], refusals: Mapping[tuple[str, str], int]
) -> Figures:
    """Return the counts of what was decided; `refusals` are by rule and reason."""
    changes, actions = list(changes), list(actions)
    refused: dict[str, dict[str, int]] = {}
    for (rule, reason), count in refusals.items():
        refused.setdefault(rule, {})[str(reason)] = count
    return Figures(
        by_direction=dict(Counter(change.direction for change in changes)),
        by_cause=dict(Counter(change.cause for change in changes)),
        by_rule=dict(Counter(action.rule for action in actions)),
        held_out=dict(Counter(action.rule for action in actions if action.holdout)),
        refused=refused,
    )


def count_customers(customers: Iterable[Customer]) -> Figures:
    """Return how many customers there are, and how many hold each tier."""
    held: dict[str, Counter[str]] = {}
    count = 0
    for customer in customers:
        count += 1
        for scheme, standing in customer.standings.items():
            held.setdefault(scheme, Counter())[standing.tier] += 1
    return Figures(customers=count, tiers={scheme: dict(tiers) for scheme, tiers in held.items()})


def summarise(figures: Figures, until: int | None, timeline: Timeline) -> dict[str, Any]:
    """Return the summary of a replay up to `until` (ms): what was read, who is where, what was decided."""
    policy = timeline.latest if until is None else timeline.at(until)
    return {
        "policy_version": policy.version,
        "until": None if until is None else format_instant(until),
        **read_summary(figures),
        "customers": figures.customers,
        "tiers": {
            scheme.name: {tier.name: figures.tiers.get(scheme.name, {}).get(tier.name, 0) for tier in scheme.tiers}
            for scheme in policy.schemes
        },
        "tier_changes": _counted(by_direction=figures.by_direction, by_cause=figures.by_cause),
        "care_actions": {
            **_counted(by_rule=figures.by_rule),
            "held_out": figures.held_out,
            "refused": figures.refused,
        },
    }


def read_summary(figures: Figures) -> dict[str, Any]:
    """Return what a summary says about the input: what was read, what was not used, and why."""
    return {
        "events": figures.events,
        "after_until": figures.after_until,
        "after_now": figures.after_now,
        "dead_letters": _counted(by_reason=figures.by_reason),
        "notes": figures.notes,
    }


def _counted(**counts: dict[str, int]) -> dict[str, Any]:
    """Return counts with their total, which is that of each of them."""
    return {"total": sum(next(iter(counts.values())).values()), **counts}


def dead_letter(place: Mapping[str, Any], reason: str, detail: str, value: bytes | None) -> dict[str, Any]:
    """Return a line of `dead-letters.jsonl`. `place` says where the record was. Binary values are in base64."""
    try:
        content = {"value": None if value is None else value.decode()}
    except UnicodeDecodeError:
        content = {"value_base64": base64.b64encode(value or b"").decode()}
    return {**place, "reason": reason, "detail": detail, **content}


def place_text(place: Mapping[str, Any]) -> str:
    """Return where a record was, in words."""
    if "file" in place:
        return f"{place['file']}, line {place['line']}"
    return f"{place['topic']} {place['partition']}, offset {place['offset']}"


def encode_summary(summary: Mapping[str, Any]) -> bytes:
    """Return what `summary.json` holds."""
    return orjson.dumps(summary, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n"
