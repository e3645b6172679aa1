"""Steps of a day's end, if cut-offs are computed there: report, compute cut-offs, evaluate again whom they may move.

The protocol is `streams.partition.cutoff_coordinator`'s; this decides which of its steps a partition does next.
"""

from collections.abc import Iterator

from models.customer.state import NEVER, Customer
from models.engine.decide import Engine
from streams.kafka.records import TIER_CUTOFFS
from streams.partition.cutoff_coordinator import CutoffCoordinator
from streams.partition.encoder import Encoder
from streams.partition.state import Days, Partition
from streams.partition.step import Step, Timing, few_at_a_time
from streams.partition.time_steps import TimeSteps
from streams.partition.write_back import WriteBack

#: How many customers are looked at because of new cut-offs before a step's effects are performed.
RERANKED_PER_STEP = 2_000


class DayEnds:
    """Moves a partition from one day's end to the next."""

    def __init__(
        self,
        coordinator: CutoffCoordinator,
        engine: Engine,
        timing: Timing,
        encoder: Encoder,
        time_steps: TimeSteps,
        write_back: WriteBack,
    ) -> None:
        self._coordinator = coordinator
        self._engine = engine
        self._timing = timing
        self._encoder = encoder
        self._time_steps = time_steps
        self._write_back = write_back

    def reads_until(self, partition: Partition, now: int) -> int:
        """Return the instant (ms) at which reading stops until a day's end is decided; NEVER: nothing stops it.

        The first event at or after it is still read. `now` (ms) is the wall clock. If decisions follow the wall clock,
        reading stops only once the clock has reached that instant: an event from the future must not block others.
        """
        until = self._coordinator.barrier(partition) + self._timing.read_beyond
        return NEVER if self._timing.wall_decides and until > now else until

    def step_towards(self, step: Step, horizon: int) -> None:
        """Do one step towards `horizon` (ms), and write what it came to; each is acknowledged before the next.

        In this order: compute cut-offs as the leader, evaluate whom new cut-offs may move, evaluate what is due before
        the next day's end. If nothing is left there, go beyond the day's end or report it.
        """
        coordinator, partition, effects = self._coordinator, step.partition, step.effects
        coordinator.apply_records()
        if self._compute_cutoffs(step):
            return
        days = coordinator.begin(partition, horizon)
        if coordinator.rank_index(partition).reranks:
            effects.more = True
            self._write_back(step, few_at_a_time(self._rerank(step, days)), counted=True)
            return
        self._time_steps.step_towards(step, min(horizon, days.barrier - 1))
        at_day_end = horizon >= days.barrier - 1
        if step.touched:
            effects.more = effects.more or at_day_end
        elif not effects.more and not (at_day_end and self._pass_or_report(step, days)):
            return
        self._write_back(step, step.touched.items())

    def _compute_cutoffs(self, step: Step) -> bool:
        """Compute the next cut-offs if this partition leads and all have reported; say whether it did."""
        coordinator, effects = self._coordinator, step.effects
        led = coordinator.lead(step.partition)
        if led is None:
            return False
        effects.outputs[coordinator.topic], effects.decisions.cutoffs = led
        effects.outputs[TIER_CUTOFFS] = [self._encoder.cutoffs(event) for event in effects.decisions.cutoffs]
        effects.more = True
        self._write_back(step, ())
        return True

    def _pass_or_report(self, step: Step, days: Days) -> bool:
        """Go beyond a day's end if its cut-offs are known, else report it; say whether anything was done."""
        coordinator, partition = self._coordinator, step.partition
        if coordinator.pass_day_end(partition, days):
            step.effects.more = True
        elif not coordinator.rank_index(partition).reported:
            step.effects.produce(coordinator.topic, coordinator.report(partition, days))
        else:
            return False
        return True

    def _rerank(self, step: Step, days: Days) -> Iterator[tuple[bytes, Customer]]:
        """Evaluate customers whom the cut-offs of the last day's end may move, as of then; yield those who changed.

        At most as many are looked at as a step may. Nothing that they are ranked by changes.
        """
        partition, engine, at = step.partition, self._engine, days.known[-1].at
        until, decisions = self._coordinator.timeline.day_end(at), step.effects.decisions
        for key, surely in self._coordinator.rank_index(partition).take_reranks(RERANKED_PER_STEP):
            row = partition.rows.get(key)
            if row is None:
                continue
            customer = Customer.from_row(key.decode(), row)
            due = surely or engine.falls_due(customer, at, until)
            if due and engine.rerank(customer, at, decisions, step.decided_at, step.effects.budget_share):
                partition.count_bytes(-len(row))
                yield key, customer
