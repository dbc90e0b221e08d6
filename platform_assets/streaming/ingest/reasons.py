"""Why a record is quarantined."""

from __future__ import annotations

from enum import StrEnum

# `detail` is read by people in a table; a hostile value must not blow it up.
MAX_DETAIL_CHARS = 300


class Reason(StrEnum):
    """Stable codes, in the order in which the rules apply. A topic's own rules have codes of their own, and come last.

    `not_json` is of JSON, `no_match` of lines: not UTF-8, or not what the pattern says. `negative_amount`: below a
    minimum of 0; `bad_value`: any other limit, pattern or list of choices. Four are of values that
    schemas of a registry wrote: no frame, an id without a schema, a schema that the contract cannot read, and bytes
    that are no value of their schema. `not_decompressible` is of a topic whose values are compressed,
    `bad_envelope` of one whose records are made of headers too.
    """

    TOMBSTONE = "tombstone"
    OVERSIZED = "oversized"
    NOT_DECOMPRESSIBLE = "not_decompressible"
    BAD_ENVELOPE = "bad_envelope"
    NOT_FRAMED = "not_framed"
    UNKNOWN_SCHEMA = "unknown_schema"
    UNREADABLE_SCHEMA = "unreadable_schema"
    NOT_DECODABLE = "not_decodable"
    NOT_JSON = "not_json"
    NO_MATCH = "no_match"
    MISSING_FIELD = "missing_field"
    WRONG_TYPE = "wrong_type"
    UNKNOWN_EVENT_TYPE = "unknown_event_type"
    BAD_TIMESTAMP = "bad_timestamp"
    NEGATIVE_AMOUNT = "negative_amount"
    BAD_VALUE = "bad_value"


_ORDER = {reason: place for place, reason in enumerate(Reason)}


class RejectedRecordError(Exception):
    """A record breaks the contract. Carries the reason's code and a detail for people."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail[:MAX_DETAIL_CHARS]


class Breaches:
    """The rules that one record breaks, as they are found."""

    def __init__(self) -> None:
        self._found: list[tuple[Reason, str]] = []

    def add(self, reason: Reason, detail: str) -> None:
        """Notes a broken rule."""
        self._found.append((reason, detail))

    @property
    def is_empty(self) -> bool:
        """Whether no rule is broken so far."""
        return not self._found

    def raise_first(self) -> None:
        """Raises `RejectedRecordError` with the first by the order of reasons, then of fields; nothing for none."""
        if self._found:
            raise RejectedRecordError(*min(self._found, key=lambda breach: _ORDER[breach[0]]))
