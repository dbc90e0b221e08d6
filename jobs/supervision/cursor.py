"""The cursor of the sensor `stream_supervisor`: what its last tick found, as JSON by the name of the group."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict

import msgspec

from jobs.supervision.model import Phase, SupervisorState


class _SavedState(msgspec.Struct, frozen=True):
    """What a cursor must say of a group; the first versions said neither `reason` nor `run_id`."""

    phase: Phase
    phase_since: float
    paused_streams: tuple[str, ...]
    reason: str = ""
    run_id: str = ""


def parse_cursor(cursor: str | None) -> dict[str, SupervisorState]:
    """The cursor is a cache that people can edit in the UI: one that cannot be read is forgotten as a whole."""
    try:
        # Not by msgspec's own JSON: a reason may have half a surrogate pair, from the bytes of a file's name.
        saved = msgspec.convert(json.loads(cursor or "{}"), dict[str, _SavedState])
    except ValueError:
        return {}
    return {name: SupervisorState(**msgspec.structs.asdict(state)) for name, state in saved.items()}


def format_cursor(states: Mapping[str, SupervisorState]) -> str:
    """The reverse of `parse_cursor`, with each time to a tenth of a second."""
    values = {name: {**asdict(state), "phase_since": round(state.phase_since, 1)} for name, state in states.items()}
    return json.dumps(values)
