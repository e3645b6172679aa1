"""Input records from bytes: decoded and validated in one pass, or refused with a reason from the closed list.

The shapes are those of the input topics (docs/contract.md). Nothing is read from files or the network here.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from models.errors import BadRecord, Reason, Unreadable
from models.events import (
    Campaign,
    Consent,
    Erasure,
    Event,
    Interaction,
    OrderCancelled,
    OrderPlaced,
    OrderRefunded,
    Profile,
    Topic,
)
from models.identity import check_ids, id64
from models.instants import (
    FIRST_NUMBER,
    LAST_NUMBER,
    MAX_INSTANT,
    MIN_INSTANT,
    format_instant,
    from_datetime,
    is_written_date,
    what_number_looks_like,
    zone,
)
from models.money import Money
from models.wire_shapes import (
    DECODERS,
    ID_FIELDS,
    CancelledShape,
    ConsentShape,
    InteractionShape,
    PlacedShape,
    ProfileShape,
    RefundedShape,
)

_BIRTHDAY = re.compile(r"(\d{4}-|--|lunar:)(\d\d)-(\d\d)", re.ASCII)
_MONTH_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_LUNAR_MONTH_DAYS = (30,) * 12
#: The interactions that answer an action and must name it.
_ANSWERS = frozenset({"care.delivered", "care.opened", "care.clicked", "care.converted"})
#: An earlier number is a mistake about its unit far more often than a time.
_NUMBERS = "allowed are epoch milliseconds from 1980 on, and RFC 3339 with an offset for any time"
_ATTRIBUTE_LEVELS = 16
_OUT_OF_BOUNDS = re.compile("length|[<>]=|out of range")
_SURVEY_MAX = 10
_VALUE_MAX = 1e9
#: Attributes travel with the state; they select and address customers and are no document store.
_ATTRIBUTES_MAX_BYTES = 4_096


#: The fields of a profile without which the rest is taken. Without its time or its consent it would mean another thing.
_IGNORABLE = ("birthday", "timezone", "locale", "registered_at", "attributes")
_WHOLE_RECORD = frozenset({Reason.TOO_LARGE, Reason.NOT_JSON, Reason.KEY_MISMATCH, Reason.TOO_FAR_AHEAD})


class PartialProfile(tuple[str, Event]):  # noqa: SLOT001  # a tuple has no slots of its own
    """(customer_id, profile) of a record without the fields that cannot be read. `note` says which, and why."""

    note: BadRecord


class Wire:
    """Decodes the records of the input topics for one policy.

    `max_bytes` bounds a record's value (the contract's `max_bytes`).
    """

    def __init__(self, money: Money, max_bytes: int = 65_536) -> None:
        self._money = money
        self._max_bytes = max_bytes

    def decode(
        self, topic: Topic, key: bytes | None, value: bytes | None, latest: int = MAX_INSTANT
    ) -> tuple[str, Event]:
        """Return (customer_id, event) of one record. `key` None means that the record came from a file.

        A profile with odd fields is a `PartialProfile`. `latest` (ms) is the last instant that is not too far ahead.
        Raises BadRecord.
        """
        if value is None:
            return self._erasure(topic, key)
        try:
            return self._checked(self._read(topic, value), key, latest)
        except BadRecord as bad:
            if topic is not Topic.CUSTOMERS or bad.reason in _WHOLE_RECORD or isinstance(value, Unreadable):
                raise
        return self._partial(value, key, latest)

    def decode_batch(
        self,
        topic: Topic,
        values: Sequence[bytes | None],
        keys: Sequence[bytes | None] | None = None,
        latest: int = MAX_INSTANT,
    ) -> list[tuple[str, Event] | BadRecord]:
        """Return what `decode` returns or raises for each record of a batch; decoded at once if all are good.

        `keys` None means that the values come from a file; otherwise there is one key for each value.
        """
        raws = self._read_batch(topic, values)
        found: list[tuple[str, Event] | BadRecord] = []
        key: bytes | None = None
        for place, value in enumerate(values):
            try:
                if keys is not None:
                    key = keys[place] or b""
                if raws is not None:
                    found.append(self._checked(raws[place], key, latest))
                    continue
            except BadRecord as bad:
                if topic is not Topic.CUSTOMERS:
                    found.append(BadRecord(bad.reason, bad.detail))
                    continue
            try:
                found.append(self.decode(topic, key, value, latest))
            except BadRecord as bad:
                # The frames of the one that was raised refer to `found`: a cycle that would hold the batch.
                found.append(BadRecord(bad.reason, bad.detail))
        return found

    def _read_batch(self, topic: Topic, values: Sequence[bytes | None]) -> list[Any] | None:
        """Return the values as the typed decoder reads them; None if any of them must be read by itself."""
        try:
            joined = b"\n".join(values)  # type: ignore[arg-type]  # None raises TypeError
            # msgspec takes a line's end for a blank: documents could end elsewhere than values do. No document can
            # go on with a brace after a brace and a blank, so each value then holds one document or more.
            joints = len(values) - 1
            whole = joined[:1] == b"{" and joined[-1:] == b"}" and joined.count(b"}\n{") == joints
            if not whole or joined.count(b"\n") != joints or max(map(len, values)) > self._max_bytes:  # type: ignore[arg-type]
                return None
            raws = DECODERS[topic].decode_lines(joined)
        except (TypeError, ValueError, RecursionError):  # msgspec's and Unicode's errors are ValueErrors
            return None
        return raws if len(raws) == len(values) else None

    def _checked(self, raw: Any, key: bytes | None, latest: int) -> tuple[str, Event]:
        customer_id = raw.customer_id if type(raw.customer_id) is str else str(raw.customer_id)
        if key is None:
            check_ids(raw, ID_FIELDS[type(raw)])
        if (key is not None and key != customer_id.encode()) or "\0" in customer_id:
            raise BadRecord(Reason.KEY_MISMATCH, "key: allowed is the customer_id of the value, without NUL")
        event = self._placed(raw) if type(raw) is PlacedShape else self._event(raw)
        if event.at is not None and event.at > latest:
            raise _too_far_ahead(event.at, latest)
        return customer_id, event

    def _partial(self, value: bytes, key: bytes | None, latest: int) -> tuple[str, Event]:
        """Return a profile without its empty and unreadable fields. Raises BadRecord if the rest cannot be read."""
        fields = _fields(value)
        ignored = [flaw for name in _IGNORABLE if name in fields and (flaw := _flaw(fields, name))]
        if flaw := _channels_flaw(fields.get("consent")):
            ignored.append(flaw)
            fields["consent"] = {**fields["consent"], "channels": []}
        try:
            raw = msgspec.convert(fields, ProfileShape)
        except msgspec.ValidationError as error:
            raise _refusal(value, error) from None
        found = self._checked(raw, key, latest)
        if not ignored:
            return found
        partial = PartialProfile(found)
        partial.note = BadRecord(Reason.FIELD_IGNORED, "; ".join(ignored))
        return partial

    def decode_campaign(self, value: bytes | None, latest: int = MAX_INSTANT) -> Campaign:
        """Return the campaign in a record of `campaigns`. `latest` is as in `decode`. Raises BadRecord."""
        if value is None:
            raise BadRecord(Reason.NOT_JSON, f"value: found none, allowed only on {Topic.CUSTOMERS.label}")
        raw = self._read(Topic.CAMPAIGNS, value)
        campaign = Campaign(_ms(raw.occurred_at), str(raw.campaign_id), raw.subject, raw.tiers, raw.attributes)
        if campaign.at > latest:
            raise _too_far_ahead(campaign.at, latest)
        return campaign

    def _read(self, topic: Topic, value: bytes) -> Any:
        if isinstance(value, Unreadable):
            raise BadRecord(value.reason, value.detail)
        if len(value) > self._max_bytes:
            raise BadRecord(Reason.TOO_LARGE, f"value: found {len(value)} bytes, allowed are {self._max_bytes}")
        try:
            return DECODERS[topic].decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _refusal(value, error) from None

    def _erasure(self, topic: Topic, key: bytes | None) -> tuple[str, Event]:
        if topic is not Topic.CUSTOMERS:
            raise BadRecord(Reason.NOT_JSON, f"value: found none, allowed only on {Topic.CUSTOMERS.label}")
        try:
            customer_id = (key or b"").decode()
        except UnicodeDecodeError:
            customer_id = ""
        if not customer_id or "\0" in customer_id:
            raise BadRecord(Reason.KEY_MISMATCH, "key: allowed is a customer_id in UTF-8, without NUL")
        return customer_id, Erasure()

    def _placed(self, raw: PlacedShape) -> OrderPlaced:
        margin = None if raw.margin is None else self._money.minor(raw.margin, raw.currency)
        order_id = raw.order_id if type(raw.order_id) is str else str(raw.order_id)
        at, order, amount = _ms(raw.occurred_at), id64(order_id), self._amount(raw)
        if raw.currency is None or raw.currency == self._money.currency:
            return OrderPlaced(at, order, amount, margin)
        return OrderPlaced(at, order, amount, margin, self._money.own(raw.amount, raw.currency))

    def _event(self, raw: Any) -> Event:
        kind = type(raw)
        if kind is RefundedShape:
            at, amount = _ms(raw.occurred_at), self._amount(raw)
            own = self._money.own(raw.amount, raw.currency)
            return OrderRefunded(at, id64(str(raw.refund_id)), id64(str(raw.order_id)), amount, own)
        if kind is CancelledShape:
            return OrderCancelled(_ms(raw.occurred_at), id64(str(raw.order_id)))
        return _interaction(raw) if kind is InteractionShape else _profile(raw)

    def _amount(self, raw: Any) -> int:
        minor = self._money.minor(raw.amount, raw.currency)
        if minor < 0:
            raise BadRecord(Reason.NEGATIVE_AMOUNT, "amount: allowed is zero or more")
        return minor


def _interaction(raw: InteractionShape) -> Interaction:
    value = raw.value
    if raw.kind == "survey":
        if value is None:
            raise BadRecord(Reason.MISSING_FIELD, "value: a survey has a score from 0 to 10")
        if not 0 <= value <= _SURVEY_MAX:
            raise BadRecord(Reason.BAD_VALUE, "value: allowed for a survey is 0 to 10")
    if value is not None and abs(value) > _VALUE_MAX:
        raise BadRecord(Reason.BAD_VALUE, f"value: allowed is up to {_VALUE_MAX:.0f}")
    if raw.kind in _ANSWERS and raw.action_id is None:
        raise BadRecord(Reason.MISSING_FIELD, f"action_id: {raw.kind} names the action it answers")
    thousandths = None if value is None else round(value * 1000)
    action = None if raw.action_id is None else id64(str(raw.action_id))
    return Interaction(_ms(raw.occurred_at), id64(str(raw.interaction_id)), raw.kind, thousandths, action)


def _profile(raw: ProfileShape) -> Profile:
    if raw.birthday is not None:
        _check_birthday(raw.birthday)
    if raw.timezone is not None:
        try:
            zone(raw.timezone)
        except ValueError as error:
            raise BadRecord(Reason.BAD_VALUE, f"timezone: {error}") from None
    _check_attributes(raw.attributes, _ATTRIBUTE_LEVELS)
    if raw.attributes is not None and len(msgspec.json.encode(raw.attributes)) > _ATTRIBUTES_MAX_BYTES:
        raise BadRecord(Reason.BAD_VALUE, f"attributes: allowed are {_ATTRIBUTES_MAX_BYTES} bytes of JSON")
    registered_at = None if raw.registered_at is None else _ms(raw.registered_at, "registered_at")
    consent = None if raw.consent is None else Consent(raw.consent.marketing, _channels(raw.consent.channels))
    updated_at = None if raw.updated_at is None else _ms(raw.updated_at, "updated_at")
    at = registered_at if updated_at is None else updated_at
    return Profile(at, raw.birthday, raw.timezone, raw.locale, consent, registered_at, raw.attributes or {}, updated_at)


def _channels(names: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Return the channels of a consent without blanks around them and in lower case, as they are compared."""
    return None if names is None else tuple(name.strip().lower() for name in names)


def _fields(value: bytes) -> dict[str, Any]:
    """Return the fields of a profile that are not empty, also within consent. Raises BadRecord if it is no object."""
    try:
        fields = msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _refusal(value, error) from None
    if not isinstance(fields, dict):
        raise BadRecord(Reason.WRONG_TYPE, "value: allowed is a JSON object")
    known = {name: fields[name] for name in ProfileShape.__struct_fields__ if name in fields}
    if isinstance(known.get("consent"), dict):
        known["consent"] = {name: each for name, each in known["consent"].items() if each != ""}
    return {name: each for name, each in known.items() if each != "" or name == "customer_id"}


def _flaw(fields: dict[str, Any], name: str) -> str:
    """Take a field that cannot be read out of the fields and return why; return "" if it can be read."""
    try:
        _profile(msgspec.convert({"customer_id": "-", name: fields[name]}, ProfileShape))
    except BadRecord as bad:
        reason = bad.detail
    except msgspec.ValidationError as error:
        reason = f"{name}: {error}"
    else:
        return ""
    del fields[name]
    return reason


def _channels_flaw(consent: Any) -> str:
    """Return why the channels of a consent cannot be read, else ""."""
    if not isinstance(consent, dict) or "channels" not in consent:
        return ""
    try:
        msgspec.convert({"channels": consent["channels"]}, ConsentShape)
    except msgspec.ValidationError as error:
        return f"consent.channels: {error}; none is allowed"
    return ""


def _check_birthday(text: str) -> None:
    match = _BIRTHDAY.fullmatch(text)
    if match is not None:
        # A 29 February is allowed in any year: what matters is the day, and shops mistype the year.
        days = _LUNAR_MONTH_DAYS if match[1] == "lunar:" else _MONTH_DAYS
        if 1 <= int(match[2]) <= 12 and 1 <= int(match[3]) <= days[int(match[2]) - 1]:
            return
    raise BadRecord(Reason.BAD_VALUE, "birthday: allowed are YYYY-MM-DD, --MM-DD and lunar:MM-DD")


def _check_attributes(value: Any, levels: int) -> None:
    """Raise BadRecord for what a state row cannot hold: integers beyond 64 bits, and nesting beyond `levels`."""
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        raise BadRecord(Reason.BAD_VALUE, "attributes: allowed are integers of up to 64 bits")
    if isinstance(value, dict | list):
        if not levels:
            raise BadRecord(Reason.BAD_VALUE, f"attributes: allowed are up to {_ATTRIBUTE_LEVELS} levels")
        for part in value.values() if isinstance(value, dict) else value:
            _check_attributes(part, levels - 1)


def _ms(when: int | datetime, field: str = "occurred_at") -> int:
    if type(when) is int:
        if FIRST_NUMBER <= when <= LAST_NUMBER:
            return when
        if LAST_NUMBER < when <= MAX_INSTANT and not is_written_date(when):
            return when
        raise BadRecord(Reason.BAD_TIME, f"{field}: found {_shown(when)}, {what_number_looks_like(when)}; {_NUMBERS}")
    instant = from_datetime(when)  # type: ignore[arg-type]  # `type is` does not narrow
    if not MIN_INSTANT <= instant <= MAX_INSTANT:
        raise BadRecord(Reason.BAD_TIME, f"{field}: allowed are the years 1 to 8999")
    return instant


def _shown(number: int) -> str:
    """Return a number for a message. Python refuses to write integers of thousands of digits."""
    return str(number) if abs(number) < 10**30 else "a number of more than 30 digits"


def _too_far_ahead(at: int, latest: int) -> BadRecord:
    detail = f"time: found {format_instant(at)}, allowed is up to {format_instant(latest)}"
    return BadRecord(Reason.TOO_FAR_AHEAD, detail)


def _refusal(value: bytes, error: Exception) -> BadRecord:
    """Return the error with its reason. The typed decoder stops at the first flaw, so check for JSON first."""
    try:
        msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as malformed:
        remedy = "; allowed is UTF-8" if isinstance(malformed, UnicodeDecodeError) else ""
        return BadRecord(Reason.NOT_JSON, f"value: {malformed}{remedy}")
    message = str(error)
    if "missing required field" in message:
        return BadRecord(Reason.MISSING_FIELD, message)
    if "Invalid value" in message:
        return BadRecord(Reason.UNKNOWN_TYPE, message)
    if "datetime" in message:
        allowed = "allowed are RFC 3339 with an offset and integer epoch milliseconds"
        return BadRecord(Reason.BAD_TIME, f"{message}; {allowed}")
    return BadRecord(Reason.BAD_VALUE if _OUT_OF_BOUNDS.search(message) else Reason.WRONG_TYPE, message)
