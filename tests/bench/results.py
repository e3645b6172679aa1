"""The results of a side, in a form that can be compared field by field."""

from typing import Any, NamedTuple

import orjson

from tests.support.live import Rig

#: Fields of a tier change that may differ: each side makes its own ids and reads its own clock.
OWN = ("event_id", "decided_at")
_SHOWN = 3


class Mismatch(AssertionError):
    """The outputs of the two sides differ, so their speeds cannot be compared."""


class Result(NamedTuple):
    """The results of a side: tier changes and the latest `customer-tiers` by customer, both as comparable JSON.

    `letters` is the number of dead letters.
    """

    changes: set[bytes]
    tiers: dict[bytes, bytes]
    letters: int


def change_of(value: bytes) -> bytes:
    """Return a `tier-changes` value without the fields in OWN. Raises KeyError if one is missing."""
    change = orjson.loads(value)
    for name in OWN:
        del change[name]
    return _comparable(change)


def tiers_of(value: bytes) -> bytes:
    """Return a whole `customer-tiers` value."""
    return _comparable(orjson.loads(value))


def read_result(rig: Rig) -> Result:
    """Return the results in the output topics of a rig."""
    changes: set[bytes] = set()
    tiers: dict[bytes, bytes] = {}
    rig.each("tier-changes", lambda records: changes.update(change_of(record.value) for record in records))
    rig.each("customer-tiers", lambda records: tiers.update((record.key, record.value) for record in records))
    return Result(changes, {key: tiers_of(value) for key, value in tiers.items()}, rig.end("dead-letters"))


def compare(peer: str, ours: Result, theirs: Result, letters: int) -> None:
    """Raise Mismatch unless both sides have the same tier changes and tiers, and `letters` dead letters."""
    if ours.changes != theirs.changes:
        raise Mismatch(_differing(peer, "tier changes", ours.changes - theirs.changes, theirs.changes - ours.changes))
    if ours.tiers != theirs.tiers:
        mine, other = set(ours.tiers.items()), set(theirs.tiers.items())
        only = ({value for _, value in side} for side in (mine - other, other - mine))
        raise Mismatch(_differing(peer, "customers' tiers", *only))
    if not ours.letters == theirs.letters == letters:
        raise Mismatch(f"{peer}: {ours.letters} dead letters of ours, {theirs.letters} of theirs, expected {letters}")


def _comparable(fields: dict[str, Any]) -> bytes:
    return orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)


def _differing(peer: str, what: str, ours: set[bytes], theirs: set[bytes]) -> str:
    lines = []
    for whose, values in (("ours", ours), ("theirs", theirs)):
        first = "; ".join(value.decode() for value in sorted(values, key=_identity)[:_SHOWN])
        lines.append(f"{len(values):,} {what} are only {whose}{', such as ' if values else ''}{first}")
    return f"{peer}: " + "\n".join(lines)


def _identity(value: bytes) -> tuple[Any, ...]:
    """Return a sort key that gives two versions of one record the same position in both sides' lists."""
    record = orjson.loads(value)
    return record["customer_id"], record.get("scheme", ""), record.get("sequence", 0)
