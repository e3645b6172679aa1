"""Chunks: the micro-batches that travel through Faust as one message each."""

from typing import Any, NamedTuple

import faust
from aiokafka import ConsumerRecord


class Chunk(NamedTuple):
    """Consecutive records of one partition, fetched after its seek number `epoch`, as chunk `number` (from 0).

    Epoch and number show whether a chunk was lost on its way. Offsets do not: logs have holes.
    """

    records: list[ConsumerRecord]
    epoch: int
    number: int = 0


class RawSchema(faust.Schema[Any, Any]):
    """Leaves keys and values as they are: Faust does not decode them."""

    def loads_key(self, app: Any, message: Any, **_: Any) -> Any:  # noqa: ARG002  # Faust's signature
        """Return the key untouched."""
        return message.key

    def loads_value(self, app: Any, message: Any, **_: Any) -> Any:  # noqa: ARG002  # Faust's signature
        """Return the value untouched."""
        return message.value
