"""Which field may say when a record happened, and how."""

from __future__ import annotations

from platform_assets.errors import TopicSpecError
from platform_assets.streaming.record_types import RecordField
from platform_assets.streaming.time_spellings import find_format_fault, find_unit_fault


def check_event_time(found: RecordField, unit: str | None, spelled: str | None) -> None:
    """Raises `TopicSpecError`, about `event_time`, where the field cannot be the time, or not in this spelling."""
    if not found.is_required:
        raise _wrong(f"event_time names {found.name}: it must be required, for a row has a day.")
    wanted = {"int": "unit", "float": "unit", "text": "format", "datetime": None}
    if found.kind not in wanted:
        raise _wrong(f"event_time names {found.name}: it must be a str, a datetime, an int or a float.")
    if unit is not None and wanted[found.kind] != "unit":
        raise _wrong(f"event_time has a unit, and {found.name} is no number.")
    if unit is None and wanted[found.kind] == "unit":
        raise _wrong(f"event_time needs a unit (s, ms, us, ns): {found.name} is a number.")
    if spelled is not None and wanted[found.kind] != "format":
        raise _wrong(f"event_time has a format, and {found.name} is no str.")
    fault = find_unit_fault(unit) if unit is not None else ""
    if fault := fault or (find_format_fault(spelled) if spelled is not None else ""):
        raise _wrong(f"event_time: {fault}.")


def _wrong(message: str) -> TopicSpecError:
    return TopicSpecError(message, argument="event_time")
