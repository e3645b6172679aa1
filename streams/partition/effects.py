"""What one step of a partition asks for: records to produce, and rows to write to the changelog."""

from collections import Counter
from dataclasses import dataclass, field

from models.care.budgets import BudgetShare
from models.errors import Reason
from models.outputs import Decisions
from streams.kafka.records import OutputRecord


@dataclass
class Effects:
    """What one step asks for, to be performed in this order: `reserve`, `outputs` (by topic), `changelog`, the commit.

    `reserve` is a changelog row that says what the outputs spend; None if they spend nothing. `row_bytes` is the size
    of the customers' rows in the changelog. `more`: another step must follow at once. The rest is counted for metrics.
    `budget_share` is what care may spend in the step; None: budgets are not counted.
    """

    reserve: tuple[bytes, bytes] | None = None
    outputs: dict[str, list[OutputRecord]] = field(default_factory=dict)
    changelog: list[tuple[bytes, bytes | None]] = field(default_factory=list)
    decisions: Decisions = field(default_factory=Decisions)
    budget_share: BudgetShare | None = None
    reasons: Counter[Reason] = field(default_factory=Counter)
    events: int = 0
    skipped: int = 0
    evaluated: int = 0
    row_bytes: int = 0
    more: bool = False

    def produce(self, topic: str, out: OutputRecord) -> None:
        """Add a record for an output topic."""
        self.outputs.setdefault(topic, []).append(out)
