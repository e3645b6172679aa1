"""Records as they are produced, and the names of the output topics."""

from typing import NamedTuple

Headers = list[tuple[str, bytes]]

TIER_CHANGES = "tier-changes"
CARE_ACTIONS = "care-actions"
CUSTOMER_TIERS = "customer-tiers"
DEAD_LETTERS = "dead-letters"
TIER_CUTOFFS = "tier-cutoffs"


class OutputRecord(NamedTuple):
    """A record to be produced, to the same partition number as the input that it follows from."""

    key: bytes | None
    value: bytes | None
    headers: Headers = []  # noqa: RUF012  # a tuple's default; it is never appended to
