"""Alerts that were closed long ago go, open ones stay whole; of the readers' notes the newest one stays."""

from __future__ import annotations

import random
import shutil
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from platform_assets.alerting.positions import FollowedLog
from platform_assets.errors import QueryFailedError
from platform_assets.streaming.context import StreamContext
from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table
from platform_assets.streaming.delta.writer import DeltaWriter
from platform_assets.streaming.engine.table_upkeep import compact
from platform_assets.streaming.ledgers import alert_history
from platform_assets.streaming.ledgers.alert_history import AlertHistory
from platform_assets.tables.platform import ALERT_POSITIONS, ALERTS
from platform_assets.tables.spec import TableSpec
from resources.lakehouse import LakehouseResource
from resources.settings import Settings

NOW = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=7)
DAYS = 10
Row = dict[str, Any]


@pytest.fixture
def context(tmp_path: Path) -> StreamContext:
    return StreamContext(str(tmp_path / "lake"), {}, "earliest", 1, 1.0, 1, None, history_days=DAYS)


def append(context: StreamContext, spec: TableSpec, rows: list[Row]) -> DeltaTable:
    table = create_table(context.table_uri(spec.name), spec, {})
    write_deltalake(table, pa.Table.from_pylist(rows, build_arrow_schema(spec)), mode="append")
    return table


def read(context: StreamContext, spec: TableSpec) -> list[Row]:
    rows: list[Row] = DeltaTable(context.table_uri(spec.name)).to_pyarrow_table().to_pylist()
    return rows


def draw_alerts(seed: int) -> list[Row]:
    chance = random.Random(seed)
    rows = []
    for number in range(60):
        at = NOW - timedelta(days=chance.uniform(0, 3 * DAYS))
        transitions = ["opened", *["repeated"] * chance.randrange(3), *["acknowledged"] * chance.randrange(2)]
        transitions += ["closed"] * chance.randrange(2)
        for transition in transitions:
            rows.append({"alert_id": f"a{number}", "transition": transition, "at": at, "rows": 1})
            at = min(NOW, at + timedelta(days=chance.uniform(0, DAYS)))
    return rows


def test_an_alert_goes_as_a_whole_when_it_was_closed_long_ago(context: StreamContext) -> None:
    rows = draw_alerts(1)
    for start in range(0, len(rows), 40):
        table = append(context, ALERTS, rows[start : start + 40])
    compact(table)  # its texts are views then
    by_alert = defaultdict(list)
    for row in rows:
        by_alert[row["alert_id"]].append(row)
    until = (NOW - timedelta(days=DAYS)).replace(hour=0, minute=0, second=0, microsecond=0)
    kept = {
        alert for alert, found in by_alert.items()
        if not any(row["transition"] == "closed" and row["at"] < until for row in found)
    }  # fmt: skip
    assert 0 < len(kept) < len(by_alert)
    history = AlertHistory(context)
    assert history.remove(NOW) == {ALERTS.name}
    found = read(context, ALERTS)
    assert sorted((row["alert_id"], row["transition"], row["at"]) for row in found) == sorted(
        (row["alert_id"], row["transition"], row["at"]) for row in rows if row["alert_id"] in kept
    )
    version = DeltaTable(context.table_uri(ALERTS.name)).version()
    assert history.remove(NOW) == AlertHistory(context).remove(NOW) == set()
    assert DeltaTable(context.table_uri(ALERTS.name)).version() == version


def test_the_newest_note_of_each_reader_stays_however_old_it_is(
    context: StreamContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alert_history, "_LEAST_NOTES", 20)

    def note(reader: str, ago: timedelta, version: int) -> Row:
        return {"reader": reader, "noted_at": NOW - ago, "table_id": "t", "version": version, "digest": "d",
                "committed_at": NOW}  # fmt: skip

    busy = [note("alert_busy", timedelta(minutes=n), 1000 - n) for n in range(30)]
    idle = [note("channel_idle", timedelta(days=400), 3)]
    table = append(context, ALERT_POSITIONS, busy[:20])
    append(context, ALERT_POSITIONS, busy[20:] + idle)
    table.update_incremental()
    compact(table)
    assert AlertHistory(context).remove(NOW) == {ALERT_POSITIONS.name}
    kept = {row["reader"]: row["version"] for row in read(context, ALERT_POSITIONS)}
    assert kept == {"alert_busy": 1000, "channel_idle": 3} and len(read(context, ALERT_POSITIONS)) == 2
    # A reader finds it there.
    lakehouse = LakehouseResource.from_settings(
        Settings(home=Path(context.lakehouse_root), lakehouse=context.lakehouse_root)
    )
    reader = FollowedLog("alert_busy", ALERTS.name, lakehouse)
    assert reader.is_open() and reader.position is not None and reader.position.version == 1000
    # Few notes are not worth a commit.
    append(context, ALERT_POSITIONS, busy[1:10])
    assert AlertHistory(context).remove(NOW) == set()


def test_what_is_cut_off_between_the_tables_is_done_by_the_next_one(
    context: StreamContext, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(alert_history, "_LEAST_NOTES", 1)
    old = NOW - timedelta(days=2 * DAYS)
    closed = [{"alert_id": "a", "transition": each, "at": old, "rows": 1} for each in ("opened", "closed")]
    append(context, ALERTS, closed)
    notes = [{"reader": "alert_a", "noted_at": NOW - timedelta(hours=n), "version": 9 - n} for n in range(3)]
    append(context, ALERT_POSITIONS, notes)
    delete = DeltaWriter.delete

    def lose(*_: Any) -> None:
        raise QueryFailedError("others won")

    monkeypatch.setattr(DeltaWriter, "delete", lose)
    history = AlertHistory(context)
    with pytest.raises(QueryFailedError, match="others won"):
        history.remove(NOW)
    shutil.copytree(context.lakehouse_root, tmp_path / "killed")
    monkeypatch.setattr(DeltaWriter, "delete", delete)
    assert history.remove(NOW) == {ALERT_POSITIONS.name}
    for root in (context, StreamContext(str(tmp_path / "killed"), {}, "earliest", 1, 1.0, 1, None, history_days=DAYS)):
        AlertHistory(root).remove(NOW)
        assert read(root, ALERTS) == [] and [row["version"] for row in read(root, ALERT_POSITIONS)] == [9]
