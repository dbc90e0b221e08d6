"""Panel `streams`: every stream of the enabled groups, of whatever topic: whether it runs, and how far it is."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from jobs.page.panel import Panel, PanelInput
from jobs.page.stream_health import judge_stream
from resources.settings import load_settings


def build(given: PanelInput) -> Mapping[str, Any] | None:
    """A row for each query; where nothing is known of the platform, what the tables' logs say."""
    rows = [
        _describe(given, group.name, query, tables.get(query))
        for group in given.groups
        for tables in ({stream.name: stream.main_table.name for stream in group.streams},)
        for query in group.query_names
    ]
    return {
        "now": given.now, "rows": rows, "has_tables": bool(given.versions),
        "trouble": given.platform.trouble, "read_at": given.platform.read_at,
    }  # fmt: skip


def _describe(given: PanelInput, group: str, query: str, table: str | None) -> dict[str, Any]:
    reading = None if given.platform.reading is None else given.platform.reading.groups.get(group)
    health = judge_stream(reading, query, given.now, load_settings().heartbeat_timeout_seconds)
    progress = reading.report.queries.get(query, {}) if reading is not None and reading.report is not None else {}
    unread = progress.get("unread_records")
    version, committed_at = given.versions.get(table or "", (None, None))
    return {
        "query": query,
        "group": group,
        "health": health,
        "rate": given.platform.rates.get((group, query)) if health.level == "good" else None,
        "lag": progress.get("lag_records") if unread is None else unread,
        "complete_until": _read_moment(progress.get("complete_until")),
        "version": version,
        "committed_at": committed_at,
    }


def _read_moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


PANEL = Panel(name="streams", title="Streams", order=70, build=build, reads_platform=True, is_wide=True)
