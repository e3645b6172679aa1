"""Writing what a step came to: rows, their changelog records, and the output records.

It runs once for every customer of every step. Nothing is decided here, and nothing is sent.
"""

from collections.abc import Iterable

from models.customer.state import Customer
from models.engine.decide import Engine
from models.events import Topic
from streams.kafka.records import CARE_ACTIONS, CUSTOMER_TIERS, TIER_CHANGES, OutputRecord
from streams.partition.cutoff_coordinator import CutoffCoordinator
from streams.partition.encoder import Encoder
from streams.partition.rank_index import RankIndex
from streams.partition.step import Step


class WriteBack:
    """Writes customers into the rows of their partition and the effects of a step."""

    def __init__(self, engine: Engine, encoder: Encoder, coordinator: CutoffCoordinator | None) -> None:
        self._engine = engine
        self._encoder = encoder
        self._coordinator = coordinator

    def __call__(
        self,
        step: Step,
        closing: Iterable[tuple[bytes, Customer | None]],
        topic: Topic | None = None,
        *,
        counted: bool = False,
    ) -> None:
        """Write the customers of a step by key (None: erased), its decisions, and the partition's progress.

        `closing` may be a generator that decides about the customers as it yields them. `topic` is that of the step's
        records, None for a step of time. `counted`: what the customers are ranked by has not changed.
        """
        coordinator = None if counted else self._coordinator
        rank_index = None if coordinator is None else coordinator.rank_index(step.partition)
        snapshots = self._write_rows(step, closing, rank_index)
        self._encode_decisions(step, snapshots)
        self._reserve(step, topic)
        step.effects.changelog.append(step.partition.progress_row())

    def _write_rows(
        self, step: Step, closing: Iterable[tuple[bytes, Customer | None]], rank_index: RankIndex | None
    ) -> list[OutputRecord]:
        """Write rows; return the `customer-tiers` records of their customers."""
        partition, tiers_of, encoder = step.partition, self._engine.tiers, self._encoder
        rows, changelog, schedule = partition.rows, step.effects.changelog, partition.timers.schedule
        snapshots: list[OutputRecord] = []
        size = 0
        for key, customer in closing:
            if customer is None:
                if rank_index is not None:
                    rank_index.forget(key)
                rows.pop(key, None)
                changelog.append((key, None))
                snapshots.append(OutputRecord(key, None))
                continue
            if rank_index is not None and customer.cursor is not None:
                rank_index.note(key, customer.ledger, customer.interactions, customer.cursor)
            rows[key] = row = customer.to_row()
            size += len(row)
            changelog.append((key, row))
            schedule(key, customer.next_instant, customer.asked)
            tiers = tiers_of(customer)
            if tiers is not None:
                snapshots.append(encoder.customer_tiers(key, tiers))
        partition.count_bytes(size)
        step.effects.row_bytes = size
        return snapshots

    def _encode_decisions(self, step: Step, snapshots: list[OutputRecord]) -> None:
        effects, encoder = step.effects, self._encoder
        decisions, outputs = effects.decisions, effects.outputs
        if decisions.changes:
            step.partition.moved(decisions.changes)
            outputs[TIER_CHANGES] = [encoder.tier_change(change) for change in decisions.changes]
        if decisions.actions:
            outputs[CARE_ACTIONS] = [encoder.care_action(action) for action in decisions.actions]
        if snapshots:
            outputs[CUSTOMER_TIERS] = snapshots

    def _reserve(self, step: Step, topic: Topic | None) -> None:
        """Note what a step spends, so that nothing is spent twice if a crash cuts it off."""
        partition, effects = step.partition, step.effects
        budget_share = effects.budget_share
        if budget_share is None:
            return
        until = (partition.progress.stream_time or 0) if topic is None else partition.next_offset(topic)
        effects.reserve = partition.reserve(budget_share, topic, until)
        if topic is not None or not effects.more:
            partition.forget_reservations(topic, until)
