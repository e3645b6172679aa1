"""What a side came to, in a form in which two sides can be compared field by field."""

from typing import Any, NamedTuple

import orjson

from tests.support.live import Rig

#: Of a tier change, what may differ: every side names its events, and reads the clock, by itself.
OWN = ("event_id", "decided_at")
_SHOWN = 3


class Mismatch(AssertionError):
    """The two sides did not come to the same outputs, so their speeds cannot be compared."""


class Result(NamedTuple):
    """What a side came to: tier changes and the latest `customer-tiers` by customer, both as comparable JSON.

    `letters` is how many dead letters it wrote.
    """

    changes: set[bytes]
    tiers: dict[bytes, bytes]
    letters: int


def change_of(value: bytes) -> bytes:
    """Return a `tier-changes` value without what is a side's own. Raises KeyError where that is missing."""
    told = orjson.loads(value)
    for name in OWN:
        del told[name]
    return _comparable(told)


def tiers_of(value: bytes) -> bytes:
    """Return a `customer-tiers` value, all of it."""
    return _comparable(orjson.loads(value))


def read_result(rig: Rig) -> Result:
    """Return what lies in the output topics of a rig."""
    changes: set[bytes] = set()
    tiers: dict[bytes, bytes] = {}
    rig.each("tier-changes", lambda records: changes.update(change_of(record.value) for record in records))
    rig.each("customer-tiers", lambda records: tiers.update((record.key, record.value) for record in records))
    return Result(changes, {key: tiers_of(value) for key, value in tiers.items()}, rig.end("dead-letters"))


def compare(peer: str, ours: Result, theirs: Result, letters: int) -> None:
    """Raise Mismatch unless both sides came to the same tier changes and tiers, and to so many dead letters."""
    if ours.changes != theirs.changes:
        raise Mismatch(_differing(peer, "tier changes", ours.changes - theirs.changes, theirs.changes - ours.changes))
    if ours.tiers != theirs.tiers:
        mine, other = set(ours.tiers.items()), set(theirs.tiers.items())
        only = ({value for _, value in side} for side in (mine - other, other - mine))
        raise Mismatch(_differing(peer, "customers' tiers", *only))
    if not ours.letters == theirs.letters == letters:
        raise Mismatch(f"{peer}: {ours.letters} dead letters of ours, {theirs.letters} of theirs, expected {letters}")


def _comparable(told: dict[str, Any]) -> bytes:
    return orjson.dumps(told, option=orjson.OPT_SORT_KEYS)


def _differing(peer: str, what: str, ours: set[bytes], theirs: set[bytes]) -> str:
    told = []
    for whose, values in (("ours", ours), ("theirs", theirs)):
        first = "; ".join(value.decode() for value in sorted(values, key=_place)[:_SHOWN])
        told.append(f"{len(values):,} {what} are only {whose}{', such as ' if values else ''}{first}")
    return f"{peer}: " + "\n".join(told)


def _place(value: bytes) -> tuple[Any, ...]:
    """What differs in a field only stands at one place in both sides' lists."""
    told = orjson.loads(value)
    return told["customer_id"], told.get("scheme", ""), told.get("sequence", 0)
