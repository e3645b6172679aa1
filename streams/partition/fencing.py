"""Fencing of the changelog: every record says who wrote it, and what an owner that was replaced writes late is ignored.

Whoever takes a partition up first writes a *claim*: an epoch above every one before it in the log, and the process that
holds it. Every row carries its writer's claim in a header. Readers judge the records in the order of the log, so all
of them come to the same verdict: a claim above the holder's makes a new holder; a record of anybody but the
holder is stale. The idea is that of fencing tokens, with the log itself as the arbiter (no transactions are needed,
which some brokers lack). Nothing here reads or writes.
"""

from collections.abc import Iterable
from typing import NamedTuple

from models.errors import TidemarkError

#: The header of a changelog record that carries its writer's claim.
HEADER = "owner"
#: Keys that start so are claims, and are kept among the rows; a customer_id never contains NUL.
CLAIM_KEY = b"\x00progress/claim/"
_EPOCH_BYTES = 8


class Fenced(TidemarkError):
    """Workers that do not own a partition write to it. Let the supervisor start this worker anew; stop the others."""


class Claim(NamedTuple):
    """A claim on a partition: `epoch` counts the owners so far, `owner` names the process (8 random bytes)."""

    epoch: int
    owner: bytes

    @classmethod
    def decode(cls, encoded: bytes) -> "Claim":
        """Return the claim that `encoded` says."""
        return cls(int.from_bytes(encoded[:_EPOCH_BYTES], "big"), encoded[_EPOCH_BYTES:])

    @property
    def encoded(self) -> bytes:
        """The claim as bytes: the value of its own record, and of the header of others."""
        return self.epoch.to_bytes(_EPOCH_BYTES, "big") + self.owner

    @property
    def headers(self) -> list[tuple[str, bytes]]:
        """The headers of a record written under this claim."""
        return [(HEADER, self.encoded)]


#: What wrote the rows of a release that knew no claims, and of an empty log.
NOBODY = Claim(0, b"")


def claim_of(headers: Iterable[tuple[str, bytes]]) -> Claim:
    """Return the claim under which a record was written."""
    for name, value in headers:
        if name == HEADER:
            return Claim.decode(value)
    return NOBODY


class Fence:
    """The verdict on one changelog partition so far. `stale` are the keys whose latest record does not count."""

    def __init__(self, holder: Claim = NOBODY) -> None:
        """`holder` is who held the partition where reading begins."""
        self.holder = holder
        self.stale: set[bytes] = set()

    def admits(self, key: bytes, headers: Iterable[tuple[str, bytes]]) -> bool:
        """Say whether the next record of the log counts."""
        claim = claim_of(headers)
        if claim.epoch > self.holder.epoch:
            self.holder = claim
        elif claim != self.holder:
            self.stale.add(key)
            return False
        self.stale.discard(key)
        return True

    def next_claim(self, owner: bytes) -> Claim:
        """Return the claim of a new owner."""
        return Claim(self.holder.epoch + 1, owner)
