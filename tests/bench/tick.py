"""The cost of a tick: with nothing due among many customers, and with a few customers due."""

import statistics
import time
from collections.abc import Iterator

from models.customer.state import row_instant
from models.events import Topic
from streams.partition.state import Partition, Watermark
from tests.bench.population import NOW_MS, batches, processor, rows, timeline
from tests.bench.report import Report, Scale
from tests.bench.workload import START_MS, Order, orders

#: Maximum duration (s) of a tick with nothing due.
TARGET_S = 0.001
_DUE = (10, 100, 1_000)
_DAY_MS = 86_400_000
_REPEATED = 101


def run(scale: Scale) -> list[Report]:
    """Measure with ten times the customers of the scale, and with the numbers of due customers in `_DUE`."""
    customers = 10 * scale.customers
    idle, due = _ticks(customers)
    shown = [["nothing", f"{idle * 1000:.4f}", "target: at most 1 ms"]]
    shown += [[f"{count:,}", f"{took * 1000:.2f}", f"{took / count * 1e6:.0f} µs each"] for count, took in due.items()]
    figures = {"customers": customers, "idle_s": idle, "due_s": due, "target_s": TARGET_S}
    return [Report(f"Tick: {customers:,} customers in a partition", ["due", "ms", ""], shown, figures)]


def _ticks(customers: int) -> tuple[float, dict[int, float]]:
    """Return the duration (s) of a tick with nothing due, and of ticks by number of due customers."""
    work, fingerprint = processor(), timeline().fingerprint
    first = Partition(0, timeline=fingerprint)
    for batch in batches(_earlier(2 * sum(_DUE))):
        work.process(first, Topic.ORDERS, "orders", batch, NOW_MS)
    first.rows.pop(first.progress_key)
    instants = sorted(row_instant(row, fingerprint) for row in first.rows.values())
    held = Partition(0, {**dict(rows(customers)), **first.rows}, timeline=fingerprint)

    def timed(horizon: int) -> float:
        tick = Watermark(horizon)
        started = time.perf_counter()
        work.advance(held, tick, NOW_MS)
        return time.perf_counter() - started

    idle = statistics.median(timed(instants[0] - _REPEATED + count) for count in range(_REPEATED))
    taken, due = 0, {}
    for count in _DUE:
        taken += count
        due[count] = timed(instants[taken - 1])
    return idle, due


def _earlier(count: int) -> Iterator[Order]:
    """Yield orders of separate customers, a year before the others, so that they are due first."""
    for place, order in enumerate(orders(count, 1)):
        at, name = START_MS - 365 * _DAY_MS + place * 1_000, f"early-{place}"
        value = order.value.replace(b'"c0"', b'"%b"' % name.encode()).replace(b"%d" % order.at, b"%d" % at)
        yield Order(at, name.encode(), value)
