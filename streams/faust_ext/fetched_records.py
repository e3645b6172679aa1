"""Records as aiokafka decodes them, handed on without a copy: one object less for each.

aiokafka makes a `ConsumerRecord` of every record that its decoder returns. What a batch is processed by (key, value,
offset, timestamp, headers) the decoder's own record has as well. tests/streams/faust_ext/test_fetched_records.py pins
what this relies on.
"""

from collections import OrderedDict
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import FetchResult


def hand_on_as_decoded(consumer: AIOKafkaConsumer) -> None:
    """Have a consumer that was started, and has nothing assigned yet, return the decoder's records."""
    consumer._fetcher._records = _Fetched()  # noqa: SLF001  # there is no other way to reach what it fetches


class _Fetched(OrderedDict[Any, Any]):
    """What was fetched and not yet asked for, by partition."""

    def __setitem__(self, tp: Any, result: Any) -> None:
        if type(result) is FetchResult:
            result._partition_records._consumer_record = _as_decoded  # noqa: SLF001  # see above
        super().__setitem__(tp, result)


def _as_decoded(_tp: Any, record: Any) -> Any:
    return record
