"""The worker's page of cut-offs over time: the latest records of `tier-cutoffs`.

Every worker has the page, no matter which one computes the cut-offs. It is for information: if the topic cannot be read
for a while, the page stays as it is and the worker goes on.
"""

import asyncio
import logging
from collections.abc import Iterable
from html import escape

import msgspec
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from config.settings import Settings
from models.outputs import TierCutoffs
from models.policy.cutoff_timeline import RankedTimeline
from streams.kafka.clients import make_consumer
from streams.kafka.records import TIER_CUTOFFS
from streams.partition.cutoff_coordinator import LEADER
from streams.report.html import END, cutoff_table, head

log = logging.getLogger(__name__)

#: The number of cut-offs of a scheme that a page keeps: more than a year's.
KEPT = 400
#: The number of them in the table; the chart has all.
_IN_TABLE = 31
_FETCH_MS = 500
#: How long (seconds) to wait before the topic is read again after an error.
_PAUSE_S = 10.0


class CutoffHistory:
    """The latest cut-offs of each percentile scheme of a policy, in the order of their instants."""

    def __init__(self, timeline: RankedTimeline) -> None:
        ranked = (
            scheme.name for policy in timeline.versions for scheme in policy.schemes if scheme.ranking is not None
        )
        self.schemes: dict[str, list[TierCutoffs]] = {name: [] for name in ranked}

    def hear(self, values: Iterable[bytes | None]) -> None:
        """Add the cut-offs in records of `tier-cutoffs`; one that came before counts once."""
        for value in values:
            try:
                cutoffs = msgspec.json.decode(value or b"", type=TierCutoffs)
            except msgspec.MsgspecError:
                log.warning("a record on tier-cutoffs holds no cut-offs and is not shown")
                continue
            known = self.schemes.get(cutoffs.scheme)
            if known is not None:
                unique = {each.event_id: each for each in (*known, cutoffs)}.values()
                known[:] = sorted(unique, key=lambda each: each.effective_at)[-KEPT:]

    def as_json(self) -> bytes:
        """Return the cut-offs by scheme, as JSON."""
        return msgspec.json.encode(self.schemes)

    def as_page(self) -> str:
        """Return the page as HTML: a chart and a table for each scheme."""
        from streams.report.charts import cutoffs_by_day  # charts take long to import, and the page is seldom opened

        parts = [head("tidemark: cut-offs"), "<h1>Cut-offs</h1>"]
        for scheme, cutoffs in self.schemes.items():
            parts.append(f"<h2>{escape(scheme)}</h2>")
            if cutoffs:
                parts.append(cutoffs_by_day(f"cut-offs ({cutoffs[-1].metric})", cutoffs))
                parts.append(cutoff_table("The latest", cutoffs[-_IN_TABLE:]))
            else:
                parts.append("<p>None yet: they are computed at the end of each business day.</p>")
        return "\n".join([*parts, END])


async def follow_cutoffs(settings: Settings, history: CutoffHistory) -> None:
    """Keep a history up to date with `tier-cutoffs`, for ever; errors are logged, and reading starts again."""
    while True:
        consumer = make_consumer(settings)
        try:
            await consumer.start()
            tp = TopicPartition(settings.topic(TIER_CUTOFFS), LEADER)
            consumer.assign([tp])
            ends, firsts = await consumer.end_offsets([tp]), await consumer.beginning_offsets([tp])
            consumer.seek(tp, max(firsts[tp], ends[tp] - 2 * KEPT * len(history.schemes)))
            while True:
                chunks = await consumer.getmany(timeout_ms=_FETCH_MS)
                history.hear(record.value for chunk in chunks.values() for record in chunk)
        except (KafkaError, OSError) as error:
            log.warning("the cut-offs for the web page cannot be read; trying again: %s", error)
        finally:
            await consumer.stop()
        await asyncio.sleep(_PAUSE_S)
