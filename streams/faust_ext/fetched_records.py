"""Records as aiokafka's decoder returns them, without a copy: one object fewer for each.

aiokafka makes a `ConsumerRecord` of every record that its decoder returns. The decoder's own record has everything that
processing reads: key, value, offset, timestamp, headers. tests/streams/faust_ext/test_fetched_records.py pins the
internals that this relies on.
"""

from collections import OrderedDict
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import FetchResult


def return_decoded_records(consumer: AIOKafkaConsumer) -> None:
    """Make a consumer return the decoder's records. It must be started and have no partitions yet."""
    consumer._fetcher._records = _Fetched()  # noqa: SLF001  # there is no public way


class _Fetched(OrderedDict[Any, Any]):
    """The fetch results that were not taken yet, by partition."""

    def __setitem__(self, tp: Any, result: Any) -> None:
        if type(result) is FetchResult:
            result._partition_records._consumer_record = _as_decoded  # noqa: SLF001  # see above
        super().__setitem__(tp, result)


def _as_decoded(_tp: Any, record: Any) -> Any:
    return record
