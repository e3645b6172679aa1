"""The files that a replay writes: one JSON object a line, in one order, byte-identical from run to run."""

import base64
import os
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import orjson

from models.customer import Customer
from models.engine import Engine
from models.instants import format_instant, parse_instant
from models.outputs import CareAction, TierChange
from models.policy import Timeline
from streams.replay import BadLine, ReplayError, Result


def write_result(result: Result, timeline: Timeline, directory: Path) -> dict[str, Any]:
    """Write the five files into a directory, each by atomic rename; return the summary. Raises ReplayError."""
    summary = summarise(result, timeline)
    engine = Engine(timeline)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _write(directory / "tier-changes.jsonl", map(msgspec.json.encode, sorted(result.changes, key=_change_order)))
        _write(directory / "care-actions.jsonl", map(msgspec.json.encode, sorted(result.actions, key=_action_order)))
        customers = (orjson.dumps(final_state(engine, customer, result.until)) for customer in result.customers)
        _write(directory / "customers.jsonl", customers)
        _write(directory / "dead-letters.jsonl", (orjson.dumps(_dead_letter(bad)) for bad in result.bad_lines))
        _write(directory / "summary.json", [orjson.dumps(summary, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)])
    except OSError as error:
        raise ReplayError(f"{directory} cannot be written: {error.strerror}") from None
    return summary


def final_state(engine: Engine, customer: Customer, until: int | None) -> dict[str, Any]:
    """Return a customer's tiers and metrics as of `until` (ms), and the counters, as `customers.jsonl` has them."""
    at = until if customer.cursor is None or until is None else max(until, customer.cursor)
    tiers = engine.tiers(customer, at)
    known: dict[str, Any] = {} if tiers is None else msgspec.to_builtins(tiers)
    counters = {name: getattr(customer.counters, name) for name in customer.counters.__struct_fields__}
    return {"customer_id": customer.customer_id, "tiers": {}, "metrics": {}, **known, "counters": counters}


def summarise(result: Result, timeline: Timeline) -> dict[str, Any]:
    """Return the figures of a replay: what was read, who is where, what was decided."""
    policy = timeline.latest if result.until is None else timeline.at(result.until)
    held: dict[str, Counter[str]] = {scheme.name: Counter() for scheme in policy.schemes}
    for customer in result.customers:
        for scheme, standing in customer.standings.items():
            if scheme in held:
                held[scheme][standing.tier] += 1
    return {
        "policy_version": policy.version,
        "until": None if result.until is None else format_instant(result.until),
        "events": dict(result.events),
        "after_until": result.after_until,
        "customers": len(result.customers),
        "tiers": {
            scheme.name: {tier.name: held[scheme.name][tier.name] for tier in scheme.tiers} for scheme in policy.schemes
        },
        "tier_changes": {
            "total": len(result.changes),
            "by_direction": dict(Counter(change.direction for change in result.changes)),
            "by_cause": dict(Counter(change.cause for change in result.changes)),
        },
        "care_actions": {
            "total": len(result.actions),
            "by_rule": dict(Counter(action.rule for action in result.actions)),
            "held_out": dict(Counter(action.rule for action in result.actions if action.holdout)),
            "refused": _refused(result.refusals),
        },
        "dead_letters": {
            "total": len(result.bad_lines),
            "by_reason": dict(Counter(bad.bad.reason.value for bad in result.bad_lines)),
        },
        "notes": dict(result.notes),
    }


def _refused(refusals: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
    """Return how often each rule was refused, by the reason."""
    refused: dict[str, dict[str, int]] = {}
    for (rule, reason), count in sorted(refusals.items()):
        refused.setdefault(rule, {})[str(reason)] = count
    return refused


def _change_order(change: TierChange) -> tuple[int, str, str, int]:
    return parse_instant(change.effective_at), change.customer_id, change.scheme, change.sequence


def _action_order(action: CareAction) -> tuple[int, str, str, str]:
    return parse_instant(action.due_at), action.customer_id, action.rule, action.action_id


def _dead_letter(line: BadLine) -> dict[str, Any]:
    try:
        value = {"value": line.value.decode()}
    except UnicodeDecodeError:
        value = {"value_base64": base64.b64encode(line.value).decode()}
    return {"file": line.file, "line": line.line, "reason": line.bad.reason, "detail": line.bad.detail, **value}


def _write(path: Path, lines: Iterable[bytes]) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.writelines(line + b"\n" for line in lines)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
