"""Writes and reads `platform.alerts`: what has become of each alert, as rows that are added only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from platform_assets.alerting.alert_spec import AlertSpec
from platform_assets.alerting.alert_states import ACKNOWLEDGED, CLOSED, OpenAlert, Transition
from platform_assets.delta_reader import register_pinned
from platform_assets.streaming.delta.appended_once import append_once
from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table
from platform_assets.tables.platform import ALERTS

if TYPE_CHECKING:
    from deltalake import DeltaTable

    from resources.duckdb import DuckDBResource
    from resources.lakehouse import LakehouseResource


@dataclass(frozen=True)
class AlertState:
    """One alert as it is now. `rows` have raised it; times are UTC, None for what has not happened."""

    alert_id: str
    alert: str
    key: str
    severity: str
    owner: str
    text: str
    rows: int
    event_time: datetime | None
    opened_at: datetime
    raised_at: datetime
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    closed_at: datetime | None


def open_alert_table(lakehouse: LakehouseResource) -> DeltaTable:
    """The table, made where it is not there."""
    return create_table(lakehouse.table_uri(ALERTS.name), ALERTS, lakehouse.storage_options())


def append_transitions(
    table: DeltaTable, spec: AlertSpec, transitions: Sequence[Transition], app: str, app_version: int, version: int
) -> None:
    """Adds the transitions in one commit, once for each `app_version` of `app`; `version` is of the spec's table."""
    import pyarrow as pa

    at = datetime.now(UTC)
    same = {
        "alert": spec.name, "at": at, "severity": spec.severity.value, "owner": spec.owner,
        "source_table": spec.table.name, "source_version": version, "by": None, "reason": None,
    }  # fmt: skip
    rows = [
        {
            "alert_id": each.alert_id, "key": each.key, "transition": each.transition, "text": each.text,
            "rows": each.rows, "event_time": each.event_time, "raised_at": each.raised_at, "user_id": each.user, **same,
        }
        for each in transitions
    ]  # fmt: skip
    append_once(table, pa.Table.from_pylist(rows, build_arrow_schema(ALERTS)), app, app_version)


def append_acknowledgement(table: DeltaTable, state: AlertState, by: str, reason: str) -> None:
    """Adds the row that says who looks at an alert; the first one counts, however many are added."""
    import pyarrow as pa

    names = ("alert_id", "alert", "key", "severity", "owner", "text", "event_time", "raised_at")
    row: dict[str, Any] = {name: getattr(state, name) for name in names}
    row |= {"transition": ACKNOWLEDGED, "at": datetime.now(UTC), "rows": 0, "by": by, "reason": reason}
    rows = pa.Table.from_pylist([row], build_arrow_schema(ALERTS))
    append_once(table, rows, f"headrace/acknowledged/{state.alert_id}", 0)


def read_states(
    engine: DuckDBResource,
    table: DeltaTable,
    *,
    alert: str | None = None,
    alert_id: str | None = None,
    closed_since: datetime | None = None,
) -> list[AlertState]:
    """The open alerts, and those closed since then, the newest first.

    `alert`: of this kind only. `alert_id`: this one only, open or not.
    """
    names = ["alert_id", "alert", "key", "severity", "owner", "text", "event_time"]
    first = ", ".join(f"arg_min({name}, (\"at\", transition <> 'opened')) AS {name}" for name in names[1:])
    with engine.connected() as connection:
        register_pinned(connection, "transitions", table)
        found = connection.sql(
            f"""
            SELECT alert_id, {first}, sum(rows)::BIGINT AS rows, min("at") AS opened_at, max(raised_at) AS raised_at,
                   min("at") FILTER (transition = $acknowledged) AS acknowledged_at,
                   arg_min("by", "at") FILTER (transition = $acknowledged) AS acknowledged_by,
                   min("at") FILTER (transition = $closed) AS closed_at
            FROM transitions
            WHERE ($alert::VARCHAR IS NULL OR alert = $alert) AND ($id::VARCHAR IS NULL OR alert_id = $id)
            GROUP BY alert_id
            HAVING closed_at IS NULL OR closed_at >= $since::TIMESTAMPTZ OR $id::VARCHAR IS NOT NULL
            ORDER BY opened_at DESC, alert_id
            """,
            params={
                "alert": alert,
                "id": alert_id,
                "since": closed_since,
                "acknowledged": ACKNOWLEDGED,
                "closed": CLOSED,
            },
        )
        rows = found.to_arrow_table().to_pylist()
    return [AlertState(**row) for row in rows]


def read_open(
    engine: DuckDBResource, table: DeltaTable, spec: AlertSpec, now: datetime
) -> tuple[Iterable[OpenAlert], Iterable[tuple[str, datetime]]]:
    """What `AlertStates.restore` takes: open alerts, and those closed within the cool-down."""
    since = now - spec.cool_down if spec.cool_down > timedelta(0) else None
    states = read_states(engine, table, alert=spec.name, closed_since=since)
    found = [each for each in states if each.closed_at is None]
    closed: dict[str, datetime] = {}
    for each in states:
        if each.closed_at is not None:
            closed[each.key] = max(each.closed_at, closed.get(each.key, each.closed_at))
    return (
        [OpenAlert(each.alert_id, each.key, each.text, None, each.event_time, each.raised_at) for each in found],
        closed.items(),
    )
