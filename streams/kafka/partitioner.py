"""The partition of a key, as Kafka's default partitioner (Java's) chooses it."""

from collections.abc import Callable
from functools import lru_cache

from aiokafka.partitioner import murmur2

#: The number of keys whose partition is remembered.
_KNOWN_KEYS = 1 << 18


def partition_for(key: bytes, partitions: int) -> int:
    """Return the number, below `partitions`, of the partition that a key hashes to."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)


def partitioner(partitions: int) -> Callable[[bytes], int]:
    """Return `partition_for` with the number of partitions given; it remembers the keys that it has seen."""

    @lru_cache(maxsize=_KNOWN_KEYS)
    def of_key(key: bytes) -> int:
        return partition_for(key, partitions)

    return of_key
