"""The demo's view of a run: the output topics as they fill, and the worker's metrics."""

import asyncio
from collections import Counter, deque
from collections.abc import Iterator
from time import monotonic
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from config.settings import Settings
from models.instants import parse_instant
from models.policy.compiled import Policy
from streams.demo.data import DemoFiles
from streams.kafka.clients import make_consumer
from streams.kafka.records import CARE_ACTIONS, CUSTOMER_TIERS, DEAD_LETTERS, TIER_CHANGES

#: Maximum number of headlines per poll, so that a person can read them.
HEADLINES_PER_POLL = 1
_POLL_S = 0.2
_ARROWS = {"up": "[green]▲[/]", "down": "[red]▼[/]", "enter": "[cyan]●[/]"}


class Watch:
    """Consumes the outputs and reads the worker's metrics until every event is applied and settled."""

    def __init__(self, settings: Settings, files: DemoFiles, total: int) -> None:
        self.total = total
        self.applied = 0
        self.finished = False
        self._settings = settings
        self._produced = 0
        self._end_of_time = files.last_ms + settings.lateness
        self._sent: dict[tuple[bytes, int], float] = {}
        self._latencies: list[float] = []
        self._changes: Counter[tuple[str, str]] = Counter()
        self._actions: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._tiers: dict[bytes, dict[str, Any]] = {}
        self._headlines: deque[str] = deque(maxlen=HEADLINES_PER_POLL)
        self._running: tuple[float, float] | None = None
        self._names = {settings.topic(t): t for t in (TIER_CHANGES, CARE_ACTIONS, CUSTOMER_TIERS, DEAD_LETTERS)}

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5))
        self._consumer = make_consumer(self._settings, *self._names, fetch_max_wait_ms=50)
        await self._consumer.start()
        self._consuming = asyncio.create_task(self._consume())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._consuming.cancel()
        await asyncio.gather(self._consuming, return_exceptions=True)
        await self._consumer.stop()
        await self._http.close()

    @property
    def in_flight(self) -> int:
        """The number of events produced but not yet applied, by the worker's metrics."""
        return self._produced - self.applied

    def produced(self, topic: str, at: int, key: bytes) -> None:
        """Record that an event with instant `at` (ms) is being produced now."""
        self._produced += 1
        if topic == "orders":
            self._sent[key, at] = monotonic()

    async def ready(self) -> bool:
        """Poll the worker once, after a short wait; return whether it owns its partitions and processes them."""
        return any(sample.name == "tidemark_ready" and sample.value for sample in await self._samples())

    async def poll_metrics(self) -> None:
        """Poll the worker's metrics once, after a short wait, and update `applied` and `finished`."""
        applied, times = 0.0, []
        for sample in await self._samples():
            if sample.name == "tidemark_events_total" and sample.labels["outcome"] != "skipped":
                applied += sample.value
            elif sample.name == "tidemark_stream_time_seconds":
                times.append(sample.value * 1000)
        self._progress(int(applied), times)

    async def _samples(self) -> list[Sample]:
        await asyncio.sleep(_POLL_S)
        try:
            async with self._http.get(f"http://127.0.0.1:{self._settings.web_port}/metrics") as response:
                text = await response.text()
        except (aiohttp.ClientError, TimeoutError):
            return []  # not up yet, or busy
        return [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    async def drain(self) -> None:
        """Return once all records now on the output topics have been consumed."""
        ends = await self._consumer.end_offsets(self._consumer.assignment())
        while any([await self._consumer.position(tp) < end for tp, end in ends.items()]):  # noqa: ASYNC110  # nothing to await
            await asyncio.sleep(0.05)

    def headlines(self) -> Iterator[str]:
        """Yield the latest decisions, one line of rich markup each."""
        while self._headlines:
            yield self._headlines.popleft()

    @property
    def rate(self) -> float:
        """Events applied per second, from the first poll to the last event applied; 0 before that."""
        if self._running is None or self._running[1] <= self._running[0]:
            return 0.0
        return self.total / (self._running[1] - self._running[0])

    def latency_text(self) -> str:
        """Return the median and the 99th percentile (s) of the time from input to output, as text."""
        if not self._latencies:
            return "no order led to a tier change"
        ordered = sorted(self._latencies)
        middle, high = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]
        return f"median {middle:.2f} s, 99th percentile {high:.2f} s"

    def summary(self, policy: Policy) -> dict[str, Any]:
        """Return the figures in the shape that `summary_tables` prints."""
        held = {scheme.name: dict.fromkeys((tier.name for tier in scheme.tiers), 0) for scheme in policy.schemes}
        for tiers in self._tiers.values():
            for scheme, standing in tiers["tiers"].items():
                held[scheme][standing["tier"]] += 1
        directions: Counter[str] = Counter()
        causes: Counter[str] = Counter()
        for (direction, cause), count in self._changes.items():
            directions[direction] += count
            causes[cause] += count
        return {
            "tiers": held,
            "tier_changes": {
                "total": self._changes.total(),
                "by_direction": dict(directions),
                "by_cause": dict(causes),
            },
            "care_actions": {"total": self._actions.total(), "by_rule": dict(self._actions)},
            "dead_letters": {"total": self._reasons.total(), "by_reason": dict(self._reasons)},
        }

    def _progress(self, applied: int, times: list[float]) -> None:
        now = monotonic()
        if self._running is None:
            self._running = (now, now)
        if applied > self.applied and self._running is not None:
            self._running = (self._running[0], now)
        self.applied = applied
        settled = len(times) == self._settings.partitions and min(times, default=0) > self._end_of_time
        self.finished = applied >= self.total and settled

    async def _consume(self) -> None:
        async for record in self._consumer:
            topic = self._names[record.topic]
            if topic == DEAD_LETTERS:
                self._reasons[dict(record.headers)["reason"].decode()] += 1
            elif record.value is not None and record.key is not None:
                self._count_decision(topic, record.key, orjson.loads(record.value))

    def _count_decision(self, topic: str, key: bytes, value: dict[str, Any]) -> None:
        if topic == CUSTOMER_TIERS:
            self._tiers[key] = value
        elif topic == CARE_ACTIONS:
            self._actions[value["rule"]] += 1
            self._headlines.append(f"  ♥ {value['due_at'][:10]}  customer {value['customer_id']}: {value['kind']}")
        else:
            self._changes[value["direction"], value["cause"]] += 1
            arrow, old = _ARROWS[value["direction"]], value["from"] or "nothing"
            day, who = value["effective_at"][:10], value["customer_id"]
            self._headlines.append(f"  {arrow} {day}  customer {who}: {old} → {value['to']} ({value['cause']})")
            sent = self._sent.get((key, parse_instant(value["effective_at"])))
            if sent is not None and value["cause"] == "order":
                self._latencies.append(monotonic() - sent)
