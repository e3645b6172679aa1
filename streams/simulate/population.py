"""What a simulation knows of a population in the end: counts, of two policies beside each other, that add up.

Nothing is kept of a customer, except for what was asked for by name, and for the numbers that say where thresholds
would lie. `counting` fills it.
"""

from typing import Any, NamedTuple

import msgspec

from models.outputs import TierCutoffs

AGE = "age"
#: Where a shard tells too many values of an attribute apart, the rest of them.
OTHER = "other"
#: The value of an attribute of customers who have none.
UNKNOWN = "unknown"

Counts = dict[str, Any]


class Side(msgspec.Struct):
    """What one policy does: customers per tier, changes of that per day, moves, actions, and metrics by scheme.

    `spent`: what the actions that are to be sent took of each budget, over the whole history.
    `days` are by scheme, tier and day (days since 1970 in UTC). `cutoffs` are in order, if any were computed.
    `notes` count what was repeated, late or not understood.
    """

    held: dict[str, dict[str, int]] = {}
    days: dict[str, dict[str, dict[int, int]]] = {}
    moves: dict[str, dict[str, int]] = {}
    actions: dict[str, int] = {}
    spent: dict[str, int] = {}
    metrics: dict[str, dict[str, list[float]]] = {}
    cutoffs: list[TierCutoffs] = []
    notes: dict[str, int] = {}


class NamedMove(msgspec.Struct, frozen=True):
    """A move of a customer who was asked for by name. `side` is 0 or 1; `at` in ms."""

    customer_id: str
    side: int
    scheme: str
    from_tier: str | None
    to_tier: str
    at: int


class Population(msgspec.Struct):
    """Both sides of some customers.

    `flows` are by scheme, tier under A and tier under B; `fair` by attribute, value, scheme and what is counted.
    `read` is what the summary of a replay says about the input.
    """

    sides: tuple[Side, Side]
    customers: int = 0
    flows: dict[str, dict[str, dict[str, int]]] = {}
    fair: dict[str, dict[str, dict[str, dict[str, int]]]] = {}
    named: list[NamedMove] = []
    known: list[str] = []
    read: dict[str, Any] = {}

    def add(self, other: "Population") -> None:
        """Add what other customers counted."""
        self.customers += other.customers
        for mine, theirs in zip(self.sides, other.sides, strict=True):
            for name in ("held", "days", "moves", "actions", "spent", "notes"):
                add_counts(getattr(mine, name), getattr(theirs, name))
            for scheme, metrics in theirs.metrics.items():
                for metric, values in metrics.items():
                    mine.metrics.setdefault(scheme, {}).setdefault(metric, []).extend(values)
        add_counts(self.flows, other.flows)
        add_counts(self.fair, other.fair)
        self.named += other.named
        self.known += other.known


def empty() -> Population:
    """Return the counts of nobody."""
    return Population((Side(), Side()))


def add_counts(mine: Counts, theirs: Counts) -> None:
    """Add nested counts to others in place."""
    for name, value in theirs.items():
        if isinstance(value, dict):
            add_counts(mine.setdefault(name, {}), value)
        else:
            mine[name] = mine.get(name, 0) + value


class Kept(NamedTuple):
    """What is looked at besides the tiers: attributes of the fairness table, customers whose moves are kept."""

    attributes: tuple[str, ...] = ("region", "gender", AGE)
    names: frozenset[str] = frozenset()
