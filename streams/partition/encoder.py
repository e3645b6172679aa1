"""Decisions as Kafka records: JSON values, CloudEvents 1.0 headers (Kafka binding, binary mode), keys as bytes."""

import msgspec

from models.errors import BadRecord
from models.outputs import CareAction, CustomerTiers, TierChange, TierCutoffs
from streams.kafka.records import Headers, OutputRecord

#: Key and value of a dead letter together (bytes): more than Kafka's default limit of a record, less than the topic's.
MAX_KEPT_BYTES = 1_572_864
_MAX_KEPT_KEY = 4_096

_encode = msgspec.json.Encoder().encode
#: Shared by many records; never appended to.
_JSON: Headers = [("content-type", b"application/json")]
_VERSION = ("ce_specversion", b"1.0")
_TIER_CHANGE = ("ce_type", b"tidemark.tier-change.v1")
_TIER_CUTOFFS = ("ce_type", b"tidemark.tier-cutoffs.v1")
_CARE_ACTION = ("ce_type", b"tidemark.care-action.v1")


class Encoder:
    """Encodes the outputs of one worker group; `source` becomes `ce_source`."""

    def __init__(self, source: str) -> None:
        self._source = ("ce_source", source.encode())

    def tier_change(self, change: TierChange) -> OutputRecord:
        """Return the `tier-changes` record of a change."""
        headers = self._headers(change.event_id, _TIER_CHANGE, change.effective_at)
        return OutputRecord(change.customer_id.encode(), _encode(change), headers)

    def care_action(self, action: CareAction) -> OutputRecord:
        """Return the `care-actions` record of an action."""
        headers = self._headers(action.action_id, _CARE_ACTION, action.due_at)
        return OutputRecord(action.customer_id.encode(), _encode(action), headers)

    def customer_tiers(self, key: bytes, tiers: CustomerTiers) -> OutputRecord:
        """Return the compacted `customer-tiers` record of a customer."""
        return OutputRecord(key, _encode(tiers), _JSON)

    def cutoffs(self, cutoffs: TierCutoffs) -> OutputRecord:
        """Return the `tier-cutoffs` record of the cut-offs of a scheme; its key is the scheme."""
        headers = self._headers(cutoffs.event_id, _TIER_CUTOFFS, cutoffs.effective_at)
        return OutputRecord(cutoffs.scheme.encode(), _encode(cutoffs), headers)

    def dead_letter(
        self,
        bad: BadRecord,
        topic: str,
        partition: int,
        offset: int,
        timestamp: int,
        key: bytes | None,
        value: bytes | None,
    ) -> OutputRecord:
        """Return the `dead-letters` record: the original key and value untouched, the coordinates in the headers.

        A record too large for a topic with Kafka's usual limit is cut, and a header says so: it must not stop the
        partition. `timestamp` is in ms.
        """
        headers = [
            ("reason", bad.reason.value.encode()),
            ("detail", bad.detail.encode(errors="replace")[:1000]),
            ("topic", topic.encode()),
            ("partition", str(partition).encode()),
            ("offset", str(offset).encode()),
            ("timestamp", str(timestamp).encode()),
        ]
        if len(key or b"") + len(value or b"") > MAX_KEPT_BYTES:
            headers.append(("truncated", str(len(value or b"")).encode()))
            key = None if key is None else key[:_MAX_KEPT_KEY]
            value = None if value is None else value[: MAX_KEPT_BYTES - len(key or b"")]
        return OutputRecord(key, value, headers)

    def _headers(self, identity: str, kind: tuple[str, bytes], time: str) -> Headers:
        return [
            _VERSION,
            ("ce_id", identity.encode()),
            self._source,
            kind,
            ("ce_time", time.encode()),
            _JSON[0],
        ]
