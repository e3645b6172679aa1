"""Customers that exist before a benchmark begins: their rows, and a partition that holds them.

The processor makes the rows of a thousand customers, and these are repeated: a row does not contain the customer id.
Each row is its own bytes object, as after a recovery.
"""

from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

import orjson

from config.policy_files import load_timeline
from config.settings import Settings
from models.events import Topic
from models.policy.timeline import Timeline
from streams.partition.encoder import Encoder
from streams.partition.processor import Processor
from streams.partition.state import PROGRESS_KEY, Partition
from streams.partition.step import Timing
from tests.bench.workload import START_MS, Order
from tests.support.in_steps import FileRecord

POLICY = Path(__file__).parent / "rfm.yaml"
#: Records per batch: the default of TIDEMARK_MAX_BATCH.
BATCH: int = Settings.model_fields["max_batch"].default
#: The wall clock (ms) for the processor: later than all measured events.
NOW_MS = 2**42
_DIFFERENT = 1_000
_HOUR_MS = 3_600_000


def timeline() -> Timeline:
    """Return the policy of the benchmarks."""
    return load_timeline(POLICY)


def processor() -> Processor:
    """Return a processor like a worker's."""
    return Processor(timeline(), Timing(), Encoder("/bench"))


def batches(orders: Iterator[Order], first: int = 0) -> list[list[FileRecord]]:
    """Return orders as batches of one partition, with offsets from `first` on."""
    records = (FileRecord(first + place, order.at, order.key, order.value) for place, order in enumerate(orders))
    return list(iter(lambda: list(islice(records, BATCH)), []))


def rows(customers: int, orders: int = 5) -> Iterator[tuple[bytes, bytes]]:
    """Yield (key, row) of customers with `orders` orders each, placed in the month before the load begins."""
    known, work = Partition(0, timeline=timeline().fingerprint), processor()
    placed = (_order(index, index % _DIFFERENT, index // _DIFFERENT) for index in range(orders * _DIFFERENT))
    for batch in batches(placed):
        work.process(known, Topic.ORDERS, "orders", batch, NOW_MS)
    templates = [row for key, row in known.rows.items() if not key.startswith(PROGRESS_KEY)]
    for number, row in zip(range(customers), cycle(templates), strict=False):
        yield b"c%d" % number, bytes(bytearray(row))


def partition(customers: int) -> Partition:
    """Return a partition as after a recovery with that number of customers."""
    return Partition(0, dict(rows(customers)), timeline=timeline().fingerprint)


def _order(index: int, customer: int, nth: int) -> Order:
    """Return a customer's nth order. Customers order at different times, so that their timers are spread."""
    at = START_MS - 25 * 24 * _HOUR_MS + nth * 96 * _HOUR_MS + customer * 60_000
    value = {"type": "order.placed", "order_id": f"before-{index}", "customer_id": f"c{customer}", "occurred_at": at}
    return Order(at, b"c%d" % customer, orjson.dumps({**value, "amount": "49.90"}))
