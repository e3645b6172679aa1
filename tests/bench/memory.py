"""The resident memory of an idle customer with five orders, in a worker that has just recovered.

It is the growth of the worker's resident memory from the start of the recovery until it is ready, divided by the number
of customers. It includes rows, keys, dictionaries, timers, and memory that the allocator did not return.
"""

import statistics

from tests.bench.brokers import kind
from tests.bench.population import rows
from tests.bench.recovery import changelog, recovered
from tests.bench.report import Report, Scale

#: Maximum number of bytes per customer.
TARGET = 700
STORES = ("memory", "rocksdb")


def run(scale: Scale) -> list[Report]:
    """Measure with ten times the customers of the scale, with rows in memory and on disk."""
    customers = 10 * scale.customers
    with changelog(customers) as rig:
        found = {
            store: [_bytes(recovered(rig, "tidemark", store=store)) for _ in range(scale.runs)] for store in STORES
        }
    row = statistics.mean(len(row) for _, row in rows(1_000))
    shown = [
        ["the row alone", f"{row:,.0f}", ""],
        ["rows in memory", f"{statistics.median(found['memory']):,.0f}", f"target: at most {TARGET}"],
        ["rows on disk", f"{statistics.median(found['rocksdb']):,.0f}", "caches and buffers included"],
    ]
    return [
        Report(
            f"Memory: resident bytes per customer, {customers:,} customers with five orders, {kind()}",
            ["", "bytes", ""],
            shown,
            {"customers": customers, "row_bytes": row, "bytes_per_customer": found, "target": TARGET},
        )
    ]


def _bytes(figures: dict[str, int]) -> float:
    return figures["resident_bytes"] / figures["rows"]
