"""What is told of alerts: each transition as a value for machines, and some of them in words for people."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from platform_assets.alerting.alert_states import ACKNOWLEDGED, CLOSED, OPENED

# A message of 10,000 alerts is read by nobody, and refused by most receivers.
MOST_IN_WORDS = 20

_RANKS = {"critical": 0, "warning": 1, "info": 2}
_TOLD = frozenset({OPENED, CLOSED, ACKNOWLEDGED})


def select_told(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows of `platform.alerts` that people are told, the most severe first, and of each the oldest.

    That an open alert goes on is not told. One that was opened and closed since is told once, as closed.
    """
    newest: dict[str, Mapping[str, Any]] = {}
    # What has closed stays closed, also where it is acknowledged at the same moment.
    for row in sorted(rows, key=lambda row: (row["transition"] == CLOSED, row["at"])):
        if row["transition"] in _TOLD:
            newest[row["alert_id"]] = row
    return sorted(
        newest.values(), key=lambda row: (_RANKS.get(row["severity"], 3), row["at"], row["alert"], row["key"])
    )


def as_value(row: Mapping[str, Any]) -> dict[str, Any]:
    """One row of `platform.alerts` as JSON can hold it. Times are ISO-8601, UTC; `user_id` is left out."""
    names = ("alert_id", "alert", "key", "transition", "at", "severity", "owner", "text", "rows", "event_time",
             "raised_at", "source_table", "source_version", "by", "reason")  # fmt: skip
    values = {name: row[name] for name in names}
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()}


def encode(row: Mapping[str, Any]) -> bytes:
    """`as_value` in JSON, in ASCII: half of a surrogate pair in a record must not stop a channel."""
    return json.dumps(as_value(row)).encode("ascii")


def write_title(told: Sequence[Mapping[str, Any]]) -> str:
    """One line on all of them: "critical: 3 opened (fraud_suspected 2, records_refused 1), 1 closed"."""
    parts = []
    for transition in (OPENED, ACKNOWLEDGED, CLOSED):
        if found := [row for row in told if row["transition"] == transition]:
            kinds = Counter(row["alert"] for row in found)
            named = ", ".join(f"{kind} {count:,}" for kind, count in kinds.most_common(3))
            more = ", ..." if len(kinds) > 3 else ""
            parts.append(f"{len(found):,} {transition} ({named}{more})")
    return f"{told[0]['severity']}: {', '.join(parts)}"


def write_lines(told: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each of the first `MOST_IN_WORDS`, and one that counts the others."""
    lines = [_write_line(row) for row in told[:MOST_IN_WORDS]]
    if len(told) > MOST_IN_WORDS:
        lines.append(f"and {len(told) - MOST_IN_WORDS:,} more: headrace alerts list, or platform.alerts, has them all.")
    return lines


def _write_line(row: Mapping[str, Any]) -> str:
    about = f" {row['key']}" if row["key"] else ""
    by = f" by {row['by']}" if row["by"] else ""
    return flatten(
        f"{row['severity']} {row['alert']}{about} {row['transition']}{by}: {row['text']} [{row['alert_id']}]"
    )


def flatten(line: str) -> str:
    """One line: what stands in a record must not begin another one, steer a terminal, or turn the direction of text."""
    return "".join(sign if sign.isprintable() else " " for sign in line)
