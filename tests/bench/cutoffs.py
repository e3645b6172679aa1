"""The cost of computed cut-offs: a job with ranked tiers, compared with the same job with thresholds.

Both sides process the same orders as a stream would: no batch spans midnight, and a watermark follows each batch, at
midnight after the last of a day. They run in turn. The first half of the orders builds the population and is not
measured. In one setting no order leaves the window; in the other most do, so that silent customers change all the time.
The figures include every end of a day in the second half. CPU time is measured, so load on the machine matters less.
"""

import statistics
import time
from collections.abc import Callable
from itertools import groupby
from typing import Any

import yaml

from models.events import Topic
from models.instants import DAY_MS
from models.policy.compiled import compile_policy
from models.policy.spec import PolicySpec
from models.policy.timeline import Timeline
from streams.partition.cutoff_coordinator import cutoff_coordinator
from streams.partition.encoder import Encoder
from streams.partition.processor import Processor
from streams.partition.state import Partition, Watermark
from streams.partition.step import Timing
from tests.bench.population import NOW_MS, POLICY, batches
from tests.bench.report import Report, Scale, ratio
from tests.bench.workload import orders
from tests.support.in_steps import FileRecord

#: Minimum events/s of the ranked job, as a share of those with thresholds.
TARGET = 0.9
#: Maximum size of a sketch (bytes).
TARGET_BYTES = 20_000
_WINDOWS = ("90d", "10d")
_RANKED = {
    "kind": "percentile",
    "tiers": [
        {"name": "regular"},
        {"name": "silver", "top": "25%", "cut": "300"},
        {"name": "gold", "top": "5%", "cut": "1200"},
        {"name": "platinum", "top": "1%", "cut": "2500"},
    ],
    "demotion": {"grace": "30d"},
}


def run(scale: Scale) -> list[Report]:
    """Measure at a scale, with a window that no order leaves and with one that most orders leave."""
    by_day = groupby(orders(scale.orders, scale.customers), key=lambda order: order.at // DAY_MS)
    load: list[list[FileRecord]] = []
    for _, day in by_day:
        load += batches(day, first=sum(map(len, load)))
    rows, figures = [], []
    for window in _WINDOWS:
        plain, ranked, sizes = [], [], []
        for _ in range(scale.runs):
            plain.append(_rate(load, _timeline(window))[0])
            rate, size = _rate(load, _timeline(window, _RANKED))
            ranked.append(rate)
            sizes.append(size)
        share = ratio(ranked, plain)
        cells = [f"{statistics.median(plain):,.0f}", f"{statistics.median(ranked):,.0f}", f"{share:.2f}"]
        rows.append([window, *cells, f"{max(sizes):,}"])
        figures.append({"window": window, "plain": plain, "ranked": ranked, "ratio": share, "bytes": max(sizes)})
    columns = ["window", "thresholds, events/s", "ranked, events/s", "ratio", "sketch, bytes"]
    title = f"Cut-offs: {scale.orders:,} orders of {scale.customers:,} customers over 25 days, in one partition"
    return [Report(title, columns, rows, {"target": TARGET, "target_bytes": TARGET_BYTES, "settings": figures})]


def _timeline(window: str, loyalty: dict[str, Any] | None = None) -> Timeline:
    spec = yaml.safe_load(POLICY.read_text())
    spec["window"] = window
    if loyalty is not None:
        spec["schemes"]["loyalty"] = loyalty
    return Timeline([compile_policy(PolicySpec.model_validate(spec))])


def _rate(load: list[list[FileRecord]], timeline: Timeline) -> tuple[float, int]:
    """Return the events/s of the second half, and the size (bytes) of the largest sketch."""
    coordinator = cutoff_coordinator(timeline)
    work = Processor(timeline, Timing(), Encoder("/bench"), coordinator=coordinator)
    held = Partition(0, timeline=timeline.fingerprint)
    started, warm = time.process_time(), len(load) // 2
    for number, batch in enumerate(load):
        if number == warm:
            started = time.process_time()
        work.process(held, Topic.ORDERS, "orders", batch, NOW_MS)
        following = load[number + 1][0].timestamp if number + 1 < len(load) else batch[-1].timestamp
        _tick(work, held, max(batch[-1].timestamp, following // DAY_MS * DAY_MS))
    took = time.process_time() - started
    sketches = {} if held.rank_index is None else held.rank_index.sketches
    count = sum(map(len, load[warm:]))
    return count / took, max((len(sketch.encode()) for sketch in sketches.values()), default=0)


def _tick(work: Processor, held: Partition, at: int) -> None:
    hear: Callable[[bytes | None, bytes | None], bool] | None = (
        None if work.coordinator is None else work.coordinator.hear
    )
    more = True
    while more:
        effects = work.advance(held, Watermark(at), NOW_MS)
        more = effects.more
        if hear is not None:
            for out in effects.outputs.get("populations", ()):
                more = hear(out.key, out.value) or more
