"""Writing down what a step came to: rows, what they are to be in the changelog, and the records that tell of it.

It is gone through once for every customer of every step. Nothing is decided here, and nothing performed.
"""

from collections.abc import Callable, Iterable

from models.customer.state import Customer
from models.outputs import CustomerTiers
from streams.kafka.records import CARE_ACTIONS, CUSTOMER_TIERS, TIER_CHANGES, OutputRecord
from streams.partition.effects import Effects
from streams.partition.encoder import Encoder
from streams.partition.rank_index import RankIndex
from streams.partition.state import Partition


def write_back(
    partition: Partition,
    closing: Iterable[tuple[bytes, Customer | None]],
    effects: Effects,
    tiers_of: Callable[[Customer], CustomerTiers | None],
    encoder: Encoder,
    rank_index: RankIndex | None,
) -> None:
    """Write the customers of a step, by key, into the rows and the effects, and then what was decided about them.

    None: erased. Whoever is counted anew is in `population`.
    """
    decisions = effects.decisions
    held: list[OutputRecord] = []
    rows, changelog, schedule = partition.rows, effects.changelog, partition.timers.schedule
    size = 0
    for key, customer in closing:
        if customer is None:
            if rank_index is not None:
                rank_index.forget(key)
            rows.pop(key, None)
            changelog.append((key, None))
            held.append(OutputRecord(key, None))
            continue
        if rank_index is not None and customer.cursor is not None:
            rank_index.note(key, customer.ledger, customer.interactions, customer.cursor)
        rows[key] = row = customer.to_row()
        size += len(row)
        changelog.append((key, row))
        schedule(key, customer.next_instant, customer.asked)
        tiers = tiers_of(customer)
        if tiers is not None:
            held.append(encoder.customer_tiers(key, tiers))
    if decisions.changes:
        partition.moved(decisions.changes)
        effects.outputs[TIER_CHANGES] = [encoder.tier_change(change) for change in decisions.changes]
    if decisions.actions:
        effects.outputs[CARE_ACTIONS] = [encoder.care_action(action) for action in decisions.actions]
    if held:
        effects.outputs[CUSTOMER_TIERS] = held
    effects.row_bytes = size
    partition.row_bytes += size
