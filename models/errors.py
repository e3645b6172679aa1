"""Every error that tidemark raises on purpose, and what its reader should do.

The command line turns any of them into one line and an exit code. No traceback is formatted and nothing is logged here.
"""

from enum import StrEnum


class TidemarkError(Exception):
    """Base of all errors raised on purpose. The message is one sentence for a person."""


class UnusableInput(TidemarkError):
    """An argument, a setting or a file cannot be used; the command ends with exit code 2."""


class PolicyError(UnusableInput):
    """A policy cannot be used. Correct the keys it names; `tidemark policy check` lists them all."""


class Reason(StrEnum):
    """The closed list of reasons for which a record goes to `dead-letters`.

    With `FIELD_IGNORED` it is a copy: the record itself is applied, without the fields that the detail names.
    `DAMAGED_ROW` is the only one of records of the changelog.
    """

    NOT_JSON = "not_json"
    WRONG_TYPE = "wrong_type"
    MISSING_FIELD = "missing_field"
    UNKNOWN_TYPE = "unknown_type"
    BAD_TIME = "bad_time"
    BAD_VALUE = "bad_value"
    NEGATIVE_AMOUNT = "negative_amount"
    UNKNOWN_CURRENCY = "unknown_currency"
    TOO_FAR_AHEAD = "too_far_ahead"
    KEY_MISMATCH = "key_mismatch"
    WRONG_PARTITION = "wrong_partition"
    TOO_LARGE = "too_large"
    FIELD_IGNORED = "field_ignored"
    DAMAGED_ROW = "damaged_row"


class BadRecord(TidemarkError):
    """One input record that cannot be processed. It belongs in `dead-letters`; nothing else stops.

    `reason` is one of the closed list, `detail` says what was found and what is allowed. The detail
    names fields, never a customer.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Unreadable(bytes):
    """Something that cannot be read as an event, as far as it is known: a row's cells, or nothing of a whole batch.

    Decoding it raises BadRecord with its reason and detail.
    """

    reason: Reason
    detail: str

    def __new__(cls, reason: Reason, detail: str, content: bytes = b"") -> "Unreadable":
        """Return a value whose decoding is refused with this reason and detail."""
        self = super().__new__(cls, content)
        self.reason, self.detail = reason, detail
        return self
