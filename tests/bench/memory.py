"""What an idle customer with five orders costs in resident memory, in a worker that has just recovered.

The growth of the worker's resident memory from the start of the recovery to its being ready, over its customers: rows,
keys, dictionaries, the due index, and what the allocator did not give back.
"""

import statistics

from tests.bench.brokers import kind
from tests.bench.population import rows
from tests.bench.recovery import changelog, recovered
from tests.bench.report import Report, Scale

#: Bytes a customer, all included.
TARGET = 700
STORES = ("memory", "rocksdb")


def run(scale: Scale) -> list[Report]:
    """Measure with ten times the customers stated (1,000,000), rows in memory and on disk."""
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
            f"Memory: resident bytes a customer, {customers:,} customers with five orders, {kind()}",
            ["", "bytes", ""],
            shown,
            {"customers": customers, "row_bytes": row, "bytes_per_customer": found, "target": TARGET},
        )
    ]


def _bytes(figures: dict[str, int]) -> float:
    return figures["resident_bytes"] / figures["rows"]
