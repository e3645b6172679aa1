"""Fencing of the changelog: every record names its writer, and records that a replaced owner writes late are ignored.

A new owner of a partition first writes a *claim*: an epoch above every one before it in the log, and the process that
holds it. Every row carries its writer's claim in a header. Readers judge the records in the order of the log, so all
of them reach the same verdict: a claim above the holder's makes a new holder; a record of any other writer than the
holder is stale. These are fencing tokens with the log itself as the arbiter. No transactions are needed, which some
brokers lack. Nothing here reads or writes.
"""

from collections.abc import Iterable
from typing import NamedTuple

from models.errors import TidemarkError

#: The header of a changelog record that carries its writer's claim.
HEADER = "owner"
#: The prefix of keys of claims, which are kept among the rows; a customer_id never contains NUL.
CLAIM_KEY = b"\x00progress/claim/"
_EPOCH_BYTES = 8


class Fenced(TidemarkError):
    """Workers that do not own a partition write to it. Let the supervisor restart this worker; stop the others."""


class ChangelogLost(TidemarkError):
    """The changelog lost records while a worker held its rows. Rebuild the state as the runbook says."""


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


def claim_of(headers: Iterable[tuple[str, bytes]]) -> Claim:
    """Return the claim under which a record was written."""
    for name, value in headers:
        if name == HEADER:
            return Claim.decode(value)
    return NOBODY


class Fence:
    """The verdict on one changelog partition up to the last record read.

    `stale` are the keys whose latest record does not count.
    """

    def __init__(self, holder: Claim = NOBODY) -> None:
        """`holder` is the claim in force where reading begins."""
        self.holder = holder
        self.stale: set[bytes] = set()

    def admits(self, key: bytes, headers: Iterable[tuple[str, bytes]]) -> bool:
        """Return whether the next record of the log counts."""
        claim = claim_of(headers)
        if claim.epoch > self.holder.epoch:
            self.holder = claim
        elif claim != self.holder:
            self.stale.add(key)
            return False
        self.stale.discard(key)
        return True

    def resume(self, stale: set[bytes]) -> None:
        """Take over the stale keys that an earlier reader of the log has found."""
        self.stale = stale

    def take_stale(self) -> list[bytes]:
        """Return the stale keys, whose rows are to be written again; they no longer count as stale."""
        stale = list(self.stale)
        self.stale.clear()
        return stale

    def next_claim(self, owner: bytes) -> Claim:
        """Return the claim of a new owner."""
        return Claim(self.holder.epoch + 1, owner)
