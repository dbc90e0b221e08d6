"""What a person or the code wants of a group, in the words of the tick's message."""

from __future__ import annotations

from jobs.supervision.model import Control, GroupSpec, StopCause


def find_reason_to_stop(spec: GroupSpec, control: Control) -> tuple[StopCause, str] | None:
    """Why no run of the group is to live at all; None where one is."""
    if spec.disabled_because:
        return StopCause.DISABLED, spec.disabled_because
    if control.paused:
        return StopCause.PAUSE, describe_pause(control)
    return None


def describe_pause(control: Control) -> str:
    """Says who has paused the group, and why."""
    because = f" ({control.pause_reason})" if control.pause_reason else ""
    return f"paused by {control.paused_by or 'a person'}{because}"
