"""What is to happen because of one step of a partition."""

from collections import Counter
from dataclasses import dataclass, field

from models.care.budgets import BudgetShare
from models.errors import Reason
from models.outputs import Decisions
from streams.kafka.records import OutputRecord


@dataclass
class Effects:
    """What is to happen because of one step, in order: `reserve`, `outputs` (per topic), `changelog`, then the commit.

    `reserve` is a row for the changelog that says what the outputs spend, where they do. `budget_share` is what care
    may spend in the step; None: budgets are not counted.
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
