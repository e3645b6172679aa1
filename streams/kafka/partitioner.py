"""Which partition a key belongs to: the one that Kafka's default partitioner chooses."""

from aiokafka.partitioner import murmur2  # as Java's default partitioner


def partition_for(key: bytes, partitions: int) -> int:
    """Return the partition, of so many, that a key hashes to."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)
