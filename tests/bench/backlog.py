"""A load as a backlog in a topic, partitioned like Kafka's own clients and produced in batches."""

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any

import orjson
from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2  # Java's default partitioner

from tests.bench.workload import Order, Skew, orders

PARTITIONS = 4
#: One invalid record follows each group of this many orders.
BROKEN_EVERY = 10_000
_IN_FLIGHT = 64


def partitioned(
    count: int, customers: int, skew: Skew = "uniform", partitions: int = PARTITIONS
) -> Iterator[tuple[int, Order]]:
    """Yield each order of a load with its partition; one record per BROKEN_EVERY orders is invalid.

    The last record of each partition is an order of a new customer, who enters every scheme. So the end of a partition
    is visible in the tier changes.
    """
    last = None
    for index, order in enumerate(orders(count, customers, skew)):
        home = _home(order.key, partitions)
        yield home, order
        if index % BROKEN_EVERY == 0:
            yield home, order._replace(value=order.value[:-1])
        last = order
    if last is not None:
        for home in range(partitions):
            yield home, _newcomer(last, home, partitions)


def broken(count: int) -> int:
    """Return the number of dead letters that a load of `count` orders causes."""
    return -(-count // BROKEN_EVERY)


def preload(broker: str, topic: str, load: Iterable[tuple[int, Order]]) -> None:
    """Produce a load to a topic, and return when every record is acknowledged."""
    asyncio.run(_preload(broker, topic, load))


async def _preload(broker: str, topic: str, load: Iterable[tuple[int, Order]]) -> None:
    async with AIOKafkaProducer(bootstrap_servers=broker, max_batch_size=524_288) as producer:
        batches: dict[int, Any] = {}
        sends: set[asyncio.Future[Any]] = set()
        for partition, order in load:
            batch = batches.setdefault(partition, producer.create_batch())
            if batch.append(timestamp=None, key=order.key, value=order.value) is None:
                sends.add(await producer.send_batch(batch, topic, partition=partition))
                if len(sends) >= _IN_FLIGHT:
                    done, sends = await asyncio.wait(sends, return_when=asyncio.FIRST_COMPLETED)
                    for sent in done:
                        sent.result()
                batches[partition] = batch = producer.create_batch()
                batch.append(timestamp=None, key=order.key, value=order.value)
        for partition, batch in batches.items():
            sends.add(await producer.send_batch(batch, topic, partition=partition))
        await asyncio.gather(*sends)


def _newcomer(last: Order, home: int, partitions: int) -> Order:
    """Return an order 1 ms after the last one, of a new customer in partition `home`."""
    names = (b"newcomer%d" % number for number in range(2**20))
    key = next(name for name in names if _home(name, partitions) == home)
    value = orjson.loads(last.value) | {"order_id": "first", "customer_id": key.decode(), "occurred_at": last.at + 1}
    return Order(last.at + 1, key, orjson.dumps(value))


def _home(key: bytes, partitions: int) -> int:
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)
