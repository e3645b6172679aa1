"""Speed as the number of customers grows: events/s of the processor with 10,000, 100,000 and 1,000,000 customers.

Every order is the first of its customer in the run, at every size, so that all sizes do the same work: an order is
cheaper if the customer was seen just before.
"""

import random
import statistics
import time
from collections.abc import Iterator

from models.events import Topic
from tests.bench.population import BATCH, NOW_MS, batches, partition, processor
from tests.bench.report import Report, Scale
from tests.bench.workload import Order, orders

#: Minimum events/s with the most customers, as a share of those with the fewest.
TARGET = 0.5


def run(scale: Scale) -> list[Report]:
    """Measure with a tenth of the scale's customers, with all of them, and with ten times as many."""
    sizes = [max(1, scale.customers // 10), scale.customers, 10 * scale.customers]
    count = min(sizes[0], scale.orders)
    rates = {size: [_rate(size, count) for _ in range(scale.runs)] for size in sizes}
    medians = {size: statistics.median(found) for size, found in rates.items()}
    kept = medians[sizes[-1]] / medians[sizes[0]]
    return [
        Report(
            f"Growth: events/s of the processor, {count:,} orders in batches of {BATCH:,}",
            ["customers", "events/s"],
            [[f"{size:,}", f"{rate:,.0f}"] for size, rate in medians.items()]
            + [["largest as a share of smallest (target: 50 %)", f"{kept:.0%}"]],
            {"events_per_s": rates, "kept": kept, "target": TARGET},
        )
    ]


def _rate(customers: int, count: int) -> float:
    held, work, load = partition(customers), processor(), batches(_orders(count, customers))
    started = time.perf_counter()
    for batch in load:
        work.process(held, Topic.ORDERS, "orders", batch, NOW_MS)
    return count / (time.perf_counter() - started)


def _orders(count: int, customers: int) -> Iterator[Order]:
    chosen = random.Random(7).sample(range(customers), count)
    for customer, order in zip(chosen, orders(count, 1), strict=True):
        name = b"c%d" % customer
        yield Order(order.at, name, order.value.replace(b'"c0"', b'"%b"' % name))
