"""The worker's page of cut-offs over time: the latest of `tier-cutoffs`, which is read beside the group.

Every worker has it, whoever computes the cut-offs. It is for information: where the topic cannot be read for a while,
the page stays as it is and the worker goes on.
"""

import asyncio
import logging
from collections.abc import Iterable
from html import escape

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from config.settings import Settings
from models.outputs import TierCutoffs
from models.policy.cutoff_timeline import RankedTimeline
from streams.kafka.clients import client_options
from streams.kafka.records import TIER_CUTOFFS
from streams.kafka.topics import TIMEOUT_S
from streams.partition.cutoff_coordinator import LEADER
from streams.report.html import END, cutoff_table, head

log = logging.getLogger(__name__)

#: So many cut-offs of a scheme are known to a page at most: those of more than a year.
KEPT = 400
#: So many of them are in the table; the chart has all.
_IN_TABLE = 31
_FETCH_MS = 500
#: How long (seconds) it takes until the topic is tried again.
_PAUSE_S = 10.0


class CutoffHistory:
    """The latest cut-offs of each percentile scheme of a policy, in the order of their instants."""

    def __init__(self, timeline: RankedTimeline) -> None:
        ranked = (
            scheme.name for policy in timeline.versions for scheme in policy.schemes if scheme.ranking is not None
        )
        self.schemes: dict[str, list[TierCutoffs]] = {name: [] for name in ranked}

    def hear(self, values: Iterable[bytes | None]) -> None:
        """Take in what was told; what was told twice counts once."""
        for value in values:
            try:
                told = msgspec.json.decode(value or b"", type=TierCutoffs)
            except msgspec.MsgspecError:
                log.warning("a record on tier-cutoffs is none, and is not shown")
                continue
            known = self.schemes.get(told.scheme)
            if known is not None:
                unique = {each.event_id: each for each in (*known, told)}.values()
                known[:] = sorted(unique, key=lambda each: each.effective_at)[-KEPT:]

    def as_json(self) -> bytes:
        """Return the cut-offs by scheme."""
        return msgspec.json.encode(self.schemes)

    def as_page(self) -> str:
        """Return the page: a chart and a table a scheme."""
        from streams.report.charts import cutoffs_by_day  # what draws is large, and seldom asked for

        parts = [head("tidemark: cut-offs"), "<h1>Cut-offs</h1>"]
        for scheme, told in self.schemes.items():
            parts.append(f"<h2>{escape(scheme)}</h2>")
            if told:
                parts.append(cutoffs_by_day(f"cut-offs ({told[-1].metric})", told))
                parts.append(cutoff_table("The latest", told[-_IN_TABLE:]))
            else:
                parts.append("<p>None yet: they are computed at the end of each business day.</p>")
        return "\n".join([*parts, END])


async def follow_cutoffs(settings: Settings, history: CutoffHistory) -> None:
    """Have a history hear what `tier-cutoffs` holds, and what comes, for ever."""
    while True:
        consumer = AIOKafkaConsumer(
            **client_options(settings), enable_auto_commit=False, request_timeout_ms=TIMEOUT_S * 1000
        )
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
            log.warning("cut-offs cannot be read for the page of them, and are tried again: %s", error)
        finally:
            await consumer.stop()
        await asyncio.sleep(_PAUSE_S)
