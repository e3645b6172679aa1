"""The processor alone, without a broker: events/s, and its profile from decoding to producing."""

import asyncio
import cProfile
import pstats
import statistics
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from aiokafka.producer.message_accumulator import BatchBuilder

from models.events import Topic
from streams.partition.fencing import Claim
from streams.partition.processor import Processor
from streams.partition.state import Partition
from streams.worker.committer import Committer
from tests.bench.population import BATCH, NOW_MS, batches, processor, timeline
from tests.bench.report import Report, Scale
from tests.bench.workload import Skew, orders
from tests.support.in_steps import FileRecord

ROOT = Path(__file__).parents[2]
_SKEWS: tuple[Skew, ...] = ("uniform", "zipf")
#: Maximum number of orders in a profiled run, which is several times slower.
_PROFILED = 100_000
_SHOWN = 20
_CLAIM = Claim(1, b"the one")


def run(scale: Scale) -> list[Report]:
    """Measure with the customers of the scale and with a tenth of them, each with uniform and Zipf orders."""
    sizes = [max(1, scale.customers // 10), scale.customers]
    loads = [(size, skew) for size in sizes for skew in _SKEWS]
    rates = {load: [_rate(scale.orders, *load) for _ in range(scale.runs)] for load in loads}
    shown = [
        [f"{size:,}", skew, f"{statistics.median(found):,.0f}", f"{min(found):,.0f}", f"{max(found):,.0f}"]
        for (size, skew), found in rates.items()
    ]
    figures = [{"customers": size, "skew": skew, "events_per_s": found} for (size, skew), found in rates.items()]
    columns = ["customers", "spread", "events/s", "lowest", "highest"]
    title = f"Processor alone: {scale.orders:,} orders in batches of {BATCH:,}"
    alone = Report(title, columns, shown, {"rates": figures})
    return [alone, *_profiled(min(_PROFILED, scale.orders), scale.customers)]


def _rate(count: int, customers: int, skew: Skew) -> float:
    load, work = batches(orders(count, customers, skew)), processor()
    held = Partition(0, timeline=timeline().fingerprint)
    started = time.perf_counter()
    for batch in load:
        work.process(held, Topic.ORDERS, "orders", batch, NOW_MS)
    return count / (time.perf_counter() - started)


def _profiled(count: int, customers: int) -> list[Report]:
    """Profile decoding, deciding, encoding and filling produce batches. Nothing is sent."""
    load, work = batches(orders(count, customers)), processor()
    held, profile = Partition(0, timeline=timeline().fingerprint), cProfile.Profile()
    asyncio.run(_work_off(work, held, load, profile))
    stats: dict[Any, Any] = pstats.Stats(profile).stats  # type: ignore[attr-defined]  # not in its stubs
    total = sum(entry[2] for entry in stats.values())
    by_file: Counter[str] = Counter()
    by_function: Counter[str] = Counter()
    for (file, _, name), (_, _, own, _, callers) in stats.items():
        by_function[_short(name) if file == "~" else f"{_group(file)}:{name}"] += own
        if file != "~":
            by_file[_group(file)] += own
        for (caller, _, _), (_, _, of_caller, _) in callers.items():
            if file == "~":  # time in C code counts for its caller
                by_file[_short(name) if caller == "~" else f"{_group(caller)}: {_short(name)}"] += of_caller
    return [
        _shares("own time by file and C function", by_file, total, count),
        _shares("own time by function", by_function, total, count),
    ]


def _shares(what: str, seconds: Counter[str], total: float, count: int) -> Report:
    shown = [[name, f"{own / total:.1%}", f"{own / count * 1e6:.2f}"] for name, own in seconds.most_common(_SHOWN)]
    figures = {"events": count, "shares": {name: own / total for name, own in seconds.most_common()}}
    return Report(f"Profile: {what}, {count:,} events", ["where", "share", "µs per event, profiled"], shown, figures)


class _Unsent:
    """A producer that fills batches as usual but counts them as acknowledged without sending."""

    def create_batch(self) -> BatchBuilder:
        return BatchBuilder(900_000, 0, is_transactional=False)

    async def send_batch(self, batch: BatchBuilder, _topic: str, *, partition: int) -> "asyncio.Future[Any]":
        batch.close()
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        done.set_result(SimpleNamespace(offset=partition))
        return done


async def _work_off(work: Processor, held: Partition, load: list[list[FileRecord]], profile: cProfile.Profile) -> None:
    sender = Committer(_Unsent(), str, "changelog")
    for batch in load:
        profile.enable()
        effects = work.process(held, Topic.ORDERS, "orders", batch, NOW_MS)
        await sender.produce(0, effects.outputs)
        await sender.write(0, effects.changelog, _CLAIM)
        profile.disable()


def _group(file: str) -> str:
    path = Path(file)
    if path.is_relative_to(ROOT):
        return str(path.relative_to(ROOT))
    parts = path.parts
    return parts[parts.index("site-packages") + 1] if "site-packages" in parts else "Python's library"


def _short(name: str) -> str:
    plain = name.strip("<>").removeprefix("built-in method ").removeprefix("method ").replace(" objects", "")
    return plain.partition(" at 0x")[0]
