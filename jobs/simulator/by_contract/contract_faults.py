"""Malformed records of any topic: made of a valid one, each held against the contract, so that its reason is sure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from random import Random
from typing import Any, TypeAlias

import msgspec.inspect as inspection

from jobs.simulator.by_contract.contract_records import MAX_BYTES, ContractRecords, Document
from jobs.simulator.by_contract.field_makers import spell_time
from platform_assets.errors import UsageError
from platform_assets.streaming.record_types import RecordField
from platform_assets.streaming.topic_spec import TextLines

Break: TypeAlias = Callable[[Document, bytes], bytes | None]

_YEARS = 50 * 366 * 24 * 3600 * 1_000_000
_OLD_MICROS = 915_148_800_000_000  # 1999
_SAMPLES = 3
_WRONG: tuple[Any, ...] = ([], {"en": "Lamp"}, "x", 1.5, True, 10**30)


class ContractFaults:
    """The ways to break a topic's records, by reason. A reason that the topic cannot give has none."""

    def __init__(self, records: ContractRecords) -> None:
        self._records = records
        self._breaks: dict[str, list[Break]] = {}
        # Of today: a spelling may add what a text lacks, as the year of syslog's times, which is that of a recent one.
        self._sample_micros = _find_today()
        made = [records.make(self._sample_micros, number, number << 64 | number) for number in range(1, _SAMPLES + 1)]
        for reason, breaks in _BREAKS.items():
            found = [each for each in breaks(records) if all(self._fits(reason, each, *one) for one in made)]
            if found:
                self._breaks[reason] = found

    @property
    def reasons(self) -> tuple[str, ...]:
        """The reasons for which a record of the topic can be made, in the order of `Reason`."""
        return tuple(self._breaks)

    def break_record(self, reason: str, document: Document, value: bytes, variant: int) -> bytes | None:
        """A value that is quarantined for this reason. `variant` chooses among the ways. None is a tombstone."""
        breaks = self._breaks[reason]
        for number in range(len(breaks)):
            each = breaks[(variant + number) % len(breaks)]
            if self._fits(reason, each, document, value):
                return each(document, value)
        raise UsageError(f"A record of {self._records.topic.name} could not be broken for {reason}: {value[:200]!r}.")

    def _fits(self, reason: str, each: Break, document: Document, value: bytes) -> bool:
        try:
            broken = each(document, value)
        except UsageError:  # a line that the pattern has no text for
            return False
        return self._records.judge(broken, self._sample_micros + _YEARS // 2).startswith(f"{reason}:")


def _find_today() -> int:
    return int(datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0).timestamp()) * 1_000_000


def _change(records: ContractRecords, **changes: Any) -> Break:
    """The record with other values; `...` takes the field away."""

    def change(document: Document, value: bytes) -> bytes:
        changed = {name: found for name, found in (document | changes).items() if found is not ...}
        return records.encode(changed, Random(0))

    return change


def _break_oversized(records: ContractRecords) -> Iterator[Break]:
    yield lambda document, value: value + b" " * (MAX_BYTES + 50_000)


def _break_json(records: ContractRecords) -> Iterator[Break]:
    yield lambda document, value: value[: len(value) // 2]
    yield lambda document, value: b""
    yield lambda document, value: value[:-1] + b",}"
    yield lambda document, value: value + b"]"
    yield lambda document, value: value.replace(b'"', b'"\xff\xfe', 1)


def _break_line(records: ContractRecords) -> Iterator[Break]:
    yield lambda document, value: b"\xff" + value
    yield lambda document, value: value[: len(value) // 2]
    yield lambda document, value: value + b"\n" + value
    yield lambda document, value: b"{}"


def _break_missing(records: ContractRecords) -> Iterator[Break]:
    for each in records.topic.fields:
        yield _change(records, **{each.name: ...})
        yield _change(records, **{each.name: None})


def _break_type(records: ContractRecords) -> Iterator[Break]:
    for each in records.topic.fields:
        if each.name != records.topic.event_time.field:
            yield from (_change(records, **{each.name: wrong}) for wrong in _WRONG)


def _break_event_type(records: ContractRecords) -> Iterator[Break]:
    if records.topic.event_type is not None:
        yield from _break_choice(
            records, [each for each in records.topic.fields if each.name == records.topic.event_type]
        )


def _break_choice(records: ContractRecords, fields: list[RecordField]) -> Iterator[Break]:
    for each in fields:
        if each.choices:
            yield _change(records, **{each.name: "no_such_value" if isinstance(each.choices[0], str) else 987_654_321})


def _break_time(records: ContractRecords) -> Iterator[Break]:
    time = records.topic.event_time
    for wrong in ("yesterday", "2024-02-30T12:00:00Z"):
        yield _change(records, **{time.field: wrong})
    for micros in (_OLD_MICROS, _find_today() + 2 * _YEARS):
        yield _change(records, **{time.field: spell_time(micros, time.unit, time.format)})


def _break_sign(records: ContractRecords) -> Iterator[Break]:
    for each in records.topic.fields:
        if each.kind in ("int", "float", "decimal"):
            yield from (_change(records, **{each.name: wrong}) for wrong in (-1, -19.5))


def _break_value(records: ContractRecords) -> Iterator[Break]:
    yield from _break_choice(records, [each for each in records.topic.fields if each.name != records.topic.event_type])
    for each in records.topic.fields:
        found = each.inspected
        if isinstance(found, inspection.StrType):
            yield from (_change(records, **{each.name: wrong}) for wrong in ("", "?!", "x" * 1000))
        elif isinstance(found, inspection.IntType | inspection.FloatType):
            limits = [found.le, found.lt, found.ge, found.gt]
            yield from (_change(records, **{each.name: limit + step}) for limit in limits if limit for step in (-1, 1))


_BREAKS: dict[str, Callable[[ContractRecords], Iterator[Break]]] = {
    "tombstone": lambda records: iter([lambda document, value: None]),
    "oversized": _break_oversized,
    "not_json": lambda records: iter(()) if isinstance(records.topic.values, TextLines) else _break_json(records),
    "no_match": lambda records: _break_line(records) if isinstance(records.topic.values, TextLines) else iter(()),
    "missing_field": _break_missing,
    "wrong_type": _break_type,
    "unknown_event_type": _break_event_type,
    "bad_timestamp": _break_time,
    "negative_amount": _break_sign,
    "bad_value": _break_value,
}
