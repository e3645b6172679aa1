"""Which records of the changelog count: those of the owner, and of those only the ones that can be read.

Fencing: every record names its writer, and records that a replaced owner writes late are ignored.

A new owner of a partition first writes a *claim*: an epoch above every one before it in the log, and the process that
holds it. Every row carries its writer's claim in a header. Readers judge the records in the order of the log, so all
of them reach the same verdict: a claim above the holder's makes a new holder; a record of any other writer than the
holder is stale. These are fencing tokens with the log itself as the arbiter. No transactions are needed, which some
brokers lack. Nothing here reads or writes.

Damage: a record that no release has written does not count either, whatever it claims. The verdict follows from its
bytes alone, so all readers reach the same one.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple, Protocol

import msgspec

from models.customer.state import row_flaw
from models.errors import TidemarkError
from streams.partition.inputs import Record
from streams.partition.state import CLAIM_KEY, PROGRESS_KEY, Progress

#: The header of a changelog record that carries its writer's claim.
HEADER = "owner"
_EPOCH_BYTES = 8
_CLAIM_BYTES = 16
#: Epochs of a log begin at 1 and grow by one: none gets so far.
_EPOCH_END = 2**48


class Fenced(TidemarkError):
    """Workers that do not own a partition write to it. Let the supervisor restart this worker; stop the others."""


class ChangelogLost(TidemarkError):
    """The changelog lost records while a worker held its rows. Rebuild the state as the runbook says."""


class ChangelogRecord(Record, Protocol):
    """The attributes that are read of a record of the changelog; aiokafka's records have them."""

    @property
    def headers(self) -> Iterable[tuple[str, bytes]]:
        """The headers, by name."""


class Claim(NamedTuple):
    """A claim on a partition: `epoch` counts the owners so far, `owner` names the process (8 random bytes)."""

    epoch: int
    owner: bytes

    @classmethod
    def decode(cls, encoded: bytes) -> "Claim":
        """Return the claim that bytes encode."""
        return cls(int.from_bytes(encoded[:_EPOCH_BYTES], "big"), encoded[_EPOCH_BYTES:])

    @property
    def encoded(self) -> bytes:
        """The claim as bytes: the value of its own record, and of the header of other records."""
        return self.epoch.to_bytes(_EPOCH_BYTES, "big") + self.owner

    @property
    def headers(self) -> list[tuple[str, bytes]]:
        """The headers of a record written under this claim."""
        return [(HEADER, self.encoded)]


#: The writer of rows of a release without claims, and the holder of an empty log.
NOBODY = Claim(0, b"")


def claim_of(headers: Iterable[tuple[str, bytes]]) -> Claim | None:
    """Return the claim under which a record was written; None if the header holds none."""
    for name, value in headers:
        if name == HEADER:
            return _claim(value)
    return NOBODY


@lru_cache(maxsize=64)  # most records have the header of the one before
def _claim(encoded: bytes | None) -> Claim | None:
    if encoded is None or len(encoded) != _CLAIM_BYTES:
        return None
    claim = Claim.decode(encoded)
    return claim if claim.epoch < _EPOCH_END else None


def flaw_of(record: ChangelogRecord) -> str | None:
    """Return why a record of the changelog cannot be read, without its content; None if it can."""
    if claim_of(record.headers) is None:
        return f"header {HEADER}: it is no claim"
    return _content_flaw(record.key or b"", record.value)


def _content_flaw(key: bytes, value: bytes | None) -> str | None:
    if key.startswith(b"\0"):
        return _internal_flaw(key, value)
    if value is None:
        return None  # it removes a row, also one under a key that is no customer's
    try:
        named = bool(key.decode()) and b"\0" not in key
    except UnicodeDecodeError:
        named = False
    if not named:
        return "key: it is no customer_id"
    return row_flaw(value)


def _internal_flaw(key: bytes, value: bytes | None) -> str | None:
    if key.startswith(CLAIM_KEY):
        return "claim: it is none" if _claim(value) is None else None
    if key.startswith(PROGRESS_KEY) and value is not None:  # None: taken back, because the changelog had begun again
        try:
            msgspec.msgpack.decode(value, type=Progress)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return "progress: it cannot be decoded"
    return None  # another release may keep something of its own


class Fence:
    """The verdict on one changelog partition up to the last record read.

    `stale` are the keys whose latest record does not count, each with the offset of the record if it is damaged.
    """

    def __init__(self, holder: Claim = NOBODY) -> None:
        """`holder` is the claim in force where reading begins."""
        self.holder = holder
        self.stale: dict[bytes, int | None] = {}

    def admits(self, record: ChangelogRecord) -> bool:
        """Return whether the next record of the log counts."""
        key, claim = record.key or b"", claim_of(record.headers)
        if claim is None or _content_flaw(key, record.value) is not None:
            self.stale[key] = record.offset
            return False
        if claim.epoch > self.holder.epoch:
            self.holder = claim
        elif claim != self.holder:
            self.stale.setdefault(key, None)
            return False
        self.stale.pop(key, None)
        return True

    def resume(self, stale: dict[bytes, int | None]) -> None:
        """Take over the stale keys that an earlier reader of the log has found."""
        self.stale = stale

    def take_stale(self) -> dict[bytes, int | None]:
        """Return `stale`: the rows of these keys are to be written again; they no longer count as stale."""
        stale, self.stale = self.stale, {}
        return stale

    def next_claim(self, owner: bytes) -> Claim:
        """Return the claim of a new owner. Raises Fenced if a record has used up the epochs."""
        if self.holder.epoch + 1 >= _EPOCH_END:
            raise Fenced(
                f"the changelog has a claim with epoch {self.holder.epoch}, and none is above it: load the history "
                "under a new TIDEMARK_APP_ID, and let nobody else write to the changelog"
            )
        return Claim(self.holder.epoch + 1, owner)
