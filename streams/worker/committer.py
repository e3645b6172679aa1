"""Performing effects by the batch: outputs are acknowledged, then the changelog.

Batches are filled directly (`create_batch` / `send_batch`), which costs a fraction of one produce call for each record.
It also gives back-pressure: nothing more of the partition is processed until the batch is acknowledged.
"""

import asyncio
from collections.abc import Callable, Iterable

from aiokafka import AIOKafkaProducer
from aiokafka.structs import RecordMetadata

from streams.kafka.records import Headers, OutputRecord
from streams.partition.fencing import Claim


class Committer:
    """Sends the effects of one partition at a time. `name_of(label)` is a topic's full name."""

    def __init__(self, producer: AIOKafkaProducer, name_of: Callable[[str], str], changelog: str) -> None:
        self._producer = producer
        self._name_of = name_of
        self._changelog = changelog

    async def produce(self, partition: int, outputs: dict[str, list[OutputRecord]]) -> None:
        """Produce outputs, by topic label, and await their acknowledgements. Raises KafkaError if one does not come."""
        await self._all(
            [
                send
                for topic, outs in outputs.items()
                for send in await self._send(self._name_of(topic), partition, outs)
            ]
        )

    async def write(self, partition: int, rows: Iterable[tuple[bytes, bytes | None]], claim: Claim) -> range:
        """Write rows to the changelog under a claim; return the offsets from the first to the last of them.

        If another process wrote in between, there are more offsets than rows. Raises KafkaError if an acknowledgement
        does not come: the worker must not go on.
        """
        headers = claim.headers
        written = await self._all(
            await self._send(self._changelog, partition, ((key, row, headers) for key, row in rows))
        )
        return range(min(part.start for part in written), max(part.stop for part in written))

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

    async def _all(self, sends: list[tuple["asyncio.Future[RecordMetadata]", int]]) -> list[range]:
        acknowledged = await asyncio.gather(*(future for future, _ in sends))
        return [range(meta.offset, meta.offset + count) for meta, (_, count) in zip(acknowledged, sends, strict=True)]
