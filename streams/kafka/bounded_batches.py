"""Compressed batches of records: how much of one is decompressed, and what stands for one that is too large.

A batch of a megabyte can hold a gigabyte of blanks, and aiokafka decompresses a batch as a whole. `bound_batches`
replaces its decoders and its reader of fetched bytes in this process, for Faust's consumers and ours: there is no
public way. tests/streams/kafka/test_bounded_batches.py pins the internals that this relies on.
"""

import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import cramjam
from aiokafka import codec
from aiokafka.consumer import fetcher
from aiokafka.errors import UnsupportedCodecError
from aiokafka.record import default_records, legacy_records
from aiokafka.record._crecords import default_records as c_default_records
from aiokafka.record._crecords import legacy_records as c_legacy_records
from aiokafka.record.memory_records import MemoryRecords

from models.errors import Reason, Unreadable

#: The bytes that one batch may decompress to, and those after which the rest of a fetched partition is fetched again.
MAX_BATCH_BYTES = 67_108_864
_MIB = 1_048_576

#: A buffer has so many times the size of what is decompressed into it; if that does not do, the next, then the bound.
_RATIOS = (16, 128)
#: What cramjam says if its output does not fit.
_FULL = "whole buffer"
_XERIAL_HEADER_BYTES = 16


class _Decompressed(threading.local):
    """The size (bytes) of what this thread decompressed last."""

    size = 0


_decompressed = _Decompressed()


class BatchTooLargeError(ValueError):
    """A batch that decompresses to more than `MAX_BATCH_BYTES`."""

    def __init__(self) -> None:
        super().__init__(f"it decompresses to more than {MAX_BATCH_BYTES // _MIB} MiB")


def _into_buffers(decompress_into: Callable[[bytes, bytearray], int]) -> Callable[[bytes], bytes]:
    def decode(payload: bytes) -> bytes:
        for size in (*(len(payload) * ratio for ratio in _RATIOS), MAX_BATCH_BYTES):
            buffer = bytearray(min(size, MAX_BATCH_BYTES))
            try:
                written = decompress_into(payload, buffer)
            except cramjam.DecompressionError as error:
                if _FULL not in str(error):
                    raise
            else:
                return _noted(bytes(memoryview(buffer)[:written]))
        raise BatchTooLargeError

    return decode


def _snappy(payload: bytes) -> bytes:
    if sum(map(cramjam.snappy.decompress_raw_len, _snappy_blocks(payload))) > MAX_BATCH_BYTES:
        raise BatchTooLargeError
    return _noted(_decode_snappy(payload))


def _noted(decompressed: bytes) -> bytes:
    _decompressed.size = len(decompressed)
    return decompressed


def _snappy_blocks(payload: bytes) -> Iterator[bytes]:
    """Yield the blocks of Java's snappy streams, or the one block of other clients."""
    if not codec._detect_xerial_stream(payload):  # noqa: SLF001  # see above
        yield payload
        return
    place = _XERIAL_HEADER_BYTES
    while place < len(payload):
        (length,) = struct.unpack_from("!i", payload, place)
        yield payload[place + 4 : place + 4 + length]
        place += 4 + length


_decode_snappy = codec.snappy_decode
_DECODERS = {
    "gzip_decode": _into_buffers(cramjam.gzip.decompress_into),
    "lz4_decode": _into_buffers(cramjam.lz4.decompress_into),
    "snappy_decode": _snappy,
    "zstd_decode": _into_buffers(cramjam.zstd.decompress_into),
}


def bound_batches() -> None:
    """Have aiokafka decompress no more than `MAX_BATCH_BYTES` of a batch, in this process from now on."""
    fetcher.MemoryRecords = BoundedRecords
    for module in (codec, default_records, legacy_records, c_default_records, c_legacy_records):
        for name, decode in _DECODERS.items():
            if hasattr(module, name):
                setattr(module, name, decode)


class BoundedRecords:
    """The batches that were fetched of a partition, read like aiokafka's `MemoryRecords`."""

    def __init__(self, fetched: bytes) -> None:
        self._batches = MemoryRecords(fetched)
        self._left = MAX_BATCH_BYTES

    def size_in_bytes(self) -> int:
        """Return the bytes that were fetched."""
        return int(self._batches.size_in_bytes())

    def has_next(self) -> bool:
        """Return whether there is another batch. If enough was decompressed, there is none: it is fetched again."""
        return self._left > 0 and self._batches.has_next()

    def next_batch(self) -> Any:
        """Return the next batch. Raises CorruptRecordException."""
        batch = self._batches.next_batch()
        # Batches before Kafka 0.11 do not say whether they are compressed.
        return _Compressed(batch, self) if getattr(batch, "compression_type", 0) else batch

    def note_decompressed(self, size: int) -> None:
        """Note that a batch became `size` bytes."""
        self._left -= size


class _Record(NamedTuple):
    """What is read of aiokafka's records."""

    offset: int
    timestamp: int
    value: bytes
    key: None = None
    timestamp_type: int = 0
    checksum: None = None
    headers: tuple[()] = ()


class _Compressed:
    """A compressed batch. If it cannot be decompressed, one record at its last offset stands for its records."""

    def __init__(self, batch: Any, records: BoundedRecords) -> None:
        self._batch = batch
        self._records = records

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[Any]:
        try:
            records: Iterator[Any] = iter(self._batch)  # this decompresses it
        except (BatchTooLargeError, cramjam.DecompressionError, UnsupportedCodecError, struct.error) as error:
            return iter([self._stand_in(error)])
        self._records.note_decompressed(_decompressed.size)
        return records

    def _stand_in(self, error: Exception) -> _Record:
        first, last = self._batch.base_offset, self._batch.next_offset - 1
        reason = Reason.TOO_LARGE if isinstance(error, BatchTooLargeError) else Reason.NOT_JSON
        detail = f"offsets {first} to {last}: they are one compressed batch that is not read: {error}"
        return _Record(last, self._batch.max_timestamp, Unreadable(reason, detail))
