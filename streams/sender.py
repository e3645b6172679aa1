"""Performing effects: outputs acknowledged, then the changelog acknowledged, by the batch.

The broker's batch format is filled directly (`create_batch` / `send_batch`), which costs a fraction of a produce
call a record and gives back-pressure for free: nothing more is processed until the batch is acknowledged.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator

from aiokafka import AIOKafkaProducer
from aiokafka.structs import RecordMetadata

from streams.encode import Headers
from streams.processor import Effects


class Sender:
    """Sends the effects of one partition at a time. `name_of(topic)` gives a topic's full name."""

    def __init__(self, producer: AIOKafkaProducer, name_of: Callable[[str], str], changelog: str) -> None:
        self._producer = producer
        self._name_of = name_of
        self._changelog = changelog

    async def perform(self, partition: int, effects: Effects) -> int | None:
        """Produce the outputs, then the changelog; return the last changelog offset, None where there is none.

        Raises aiokafka's KafkaError where an acknowledgement does not come: the worker must not go on.
        """
        await self._all(
            [
                send
                for topic, outs in effects.outputs.items()
                for send in await self._send(self._name_of(topic), partition, outs)
            ]
        )
        rows: Iterator[tuple[bytes, bytes | None, Headers]] = ((key, row, []) for key, row in effects.changelog)
        written = await self._all(await self._send(self._changelog, partition, rows))
        return max((last for last in written), default=None)

    async def _send(
        self, topic: str, partition: int, records: Iterable[tuple[bytes | None, bytes | None, Headers]]
    ) -> list[tuple["asyncio.Future[RecordMetadata]", int]]:
        sends = []
        batch = self._producer.create_batch()
        for key, value, headers in records:
            if batch.append(timestamp=None, key=key, value=value, headers=headers) is None:
                sends.append((await self._producer.send_batch(batch, topic, partition=partition), batch.record_count()))
                batch = self._producer.create_batch()
                batch.append(timestamp=None, key=key, value=value, headers=headers)
        if batch.record_count():
            sends.append((await self._producer.send_batch(batch, topic, partition=partition), batch.record_count()))
        return sends

    async def _all(self, sends: list[tuple["asyncio.Future[RecordMetadata]", int]]) -> list[int]:
        acknowledged = await asyncio.gather(*(future for future, _ in sends))
        return [meta.offset + count - 1 for meta, (_, count) in zip(acknowledged, sends, strict=True)]
