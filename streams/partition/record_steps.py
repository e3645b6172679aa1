"""Steps that take records: the events of a batch are decoded, sorted by customer, and decided about."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

from models.customer.state import Customer
from models.engine.decide import Engine
from models.errors import BadRecord, Reason
from models.events import Erasure, Event, Profile, Topic
from models.wire import PartialProfile
from streams.partition.inputs import DeadLetters, Decoder, Record, unapplied
from streams.partition.state import Partition
from streams.partition.step import Step

#: A customer's key, and events of theirs in their order.
ByCustomer = Iterable[tuple[bytes, Sequence[Event]]]


class RecordSteps:
    """Reads batches of one input topic and has the engine decide about their events."""

    def __init__(
        self,
        engine: Engine,
        wire: Decoder,
        dead_letters: DeadLetters,
        partition_for: Callable[[bytes], int] | None = None,
    ) -> None:
        """`partition_for(key)` is the partition that a key hashes to, if records elsewhere are to be refused."""
        self._engine = engine
        self._wire = wire
        self._dead_letters = dead_letters
        self._partition_for = partition_for

    def read(
        self, step: Step, topic: Topic, name: str, records: Iterable[Record], *, latest: int, until: int
    ) -> ByCustomer:
        """Return the events of records by customer, and note that they are applied.

        Events after `latest` (ms) are refused. Reading ends with the first event at or after `until` (ms). If customers
        share budgets each event comes by itself, because the order of arrival decides who is served.
        """
        partition, effects = step.partition, step.effects
        by_customer: dict[bytes, list[Event]] = {}
        by_arrival: list[tuple[bytes, Sequence[Event]]] | None = [] if self._engine.timeline.budgeted else None
        next_offset, newest = partition.next_offset(topic), None
        for record, decoded in self._decoded(topic, unapplied(records, next_offset, effects), latest):
            next_offset = record.offset + 1
            key = record.key or b""
            events = by_customer.get(key)
            known = events is not None or isinstance(decoded, BadRecord)
            found = decoded if known else self._astray(partition, key) or decoded
            if isinstance(found, BadRecord):
                self._dead_letters.add(effects, found, name, partition.number, record)
                continue
            event = found[1]
            if events is None:
                events = by_customer[key] = []
            events.append(event)
            if by_arrival is not None:
                by_arrival.append((key, (event,)))
            if type(event) is Profile:
                at = event.updated_at
                if isinstance(found, PartialProfile):
                    self._dead_letters.add(effects, found.note, name, partition.number, record)
            else:
                at = event.at
            if at is not None and (newest is None or at > newest):
                newest = at
                if at >= until:
                    break
        effects.events += sum(map(len, by_customer.values()))
        partition.applied(topic, next_offset, newest)
        return by_customer.items() if by_arrival is None else by_arrival

    def ingest(self, step: Step, by_customer: ByCustomer) -> Iterator[tuple[bytes, Customer | None]]:
        """Have the engine decide about events; yield each customer when all of theirs are decided, None: erased.

        Customers are released as they are yielded, to bound memory. If they share budgets, all are yielded at the end.
        """
        ingest, decisions, decided_at = self._engine.ingest, step.effects.decisions, step.decided_at
        touched, at_once = step.touched, not self._engine.timeline.budgeted
        for key, events in by_customer:
            customer = touched.get(key)
            for event in events:
                if type(event) is Erasure:
                    step.erase(key)
                    customer = None
                    continue
                if customer is None:
                    customer = step.load(key)
                ingest(customer, event, decisions, decided_at, step.effects.budget_share)
            if at_once:
                yield key, touched.pop(key)
        yield from touched.items()

    def _decoded(
        self, topic: Topic, records: Iterable[Record], latest: int
    ) -> Iterator[tuple[Record, tuple[str, Event] | BadRecord]]:
        """Yield records with their events, decoded some at a time; more at once would leave the processor's caches."""
        several = iter(records)
        while some := list(islice(several, 256)):
            values, keys = [record.value for record in some], [record.key for record in some]
            yield from zip(some, self._wire.decode_batch(topic, values, keys, latest), strict=True)

    def _astray(self, partition: Partition, key: bytes) -> BadRecord | None:
        """Return why an unknown key is refused if it hashes to another partition, else None."""
        if self._partition_for is None or key in partition.rows or self._partition_for(key) == partition.number:
            return None
        return BadRecord(Reason.WRONG_PARTITION, f"partition: found {partition.number}, allowed is the key's own")
