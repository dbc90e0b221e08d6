"""What a replay is called in `platform.audit_log`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobs.operations.audit import Act, describe_act

if TYPE_CHECKING:
    from jobs.operations.replay.action import ReplayAction
    from jobs.operations.replay.row_replay import ReplayScope


def describe_replay(
    stream: str, action: ReplayAction, scope: ReplayScope | None, reason: str, run: Any = None
) -> Act | None:
    """The act of a swap or its undoing; None for the steps that leave the live table alone.

    Raises `UsageError` where a reason is missing.
    """
    if action not in ("swap", "undo"):
        return None
    chosen: dict[str, Any] = (
        {} if scope is None else {"since": scope.since, "until": scope.until, "offsets": scope.offsets}
    )
    chosen |= {} if scope is None else {"range": True, "unknown_fields": scope.unknown_fields}
    return describe_act(f"replay --{action}", reason, {"stream": stream, **chosen}, run=run)
