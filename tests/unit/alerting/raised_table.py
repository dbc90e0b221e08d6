"""A Delta table of temperatures, an alert on those that are too hot, and what `platform.alerts` says of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from platform_assets.alerting.alert_follower import AlertFollower
from platform_assets.alerting.alert_spec import AlertSpec, Severity
from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table
from platform_assets.tables.platform import ALERTS
from platform_assets.tables.spec import Column, TableSpec
from resources.duckdb import DuckDBResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
TABLE = TableSpec(
    name="gold.temperatures",
    description="Rows of a test.",
    grain="sensor and time",
    key=("sensor", "at"),
    columns=(
        Column("sensor", "string", "Which one."),
        Column("at", "timestamp", "When."),
        Column("degrees", "double", "How hot."),
        Column("person", "string", "Whose room."),
    ),
)
HOT = AlertSpec(
    name="too_hot",
    description="A sensor is too hot.",
    table=TABLE,
    condition="degrees >= 30",
    over="degrees < 25",
    key="sensor",
    text="concat(sensor, ' has ', degrees, ' degrees')",
    severity=Severity.WARNING,
    owner="house",
    time_column="at",
    user="person",
)

Row = dict[str, Any]


def build_row(sensor: str, degrees: float | None, minute: int | None = 0, person: str | None = None) -> Row:
    at = None if minute is None else NOON + timedelta(minutes=minute)
    return {"sensor": sensor, "at": at, "degrees": degrees, "person": person}


class RaisedTable:
    """The lakehouse of one test. `follow` lets an alert do all that there is to do now."""

    def __init__(self, home: Path, check_lease: Callable[[], None] | None = None) -> None:
        self.settings = Settings(home=home)
        self.lakehouse = LakehouseResource.from_settings(self.settings)
        self.engine = DuckDBResource.from_settings(self.settings.model_copy(update={"reports_memory_mib": 256}))
        self.check_lease = check_lease

    @property
    def uri(self) -> str:
        return self.lakehouse.table_uri(TABLE.name)

    def create(self) -> None:
        create_table(self.uri, TABLE, {})

    def append(self, rows: Sequence[Row]) -> None:
        self.create()
        write_deltalake(self.uri, pa.Table.from_pylist(list(rows), build_arrow_schema(TABLE)), mode="append")

    def delete(self, condition: str) -> None:
        DeltaTable(self.uri).delete(condition)

    def build(self, spec: AlertSpec = HOT) -> AlertFollower:
        return AlertFollower(spec, self.lakehouse, self.engine, self.check_lease)

    def follow(self, follower: AlertFollower) -> None:
        while follower.advance():
            pass

    def read(self) -> list[Row]:
        """The rows of `platform.alerts` in the order of their making."""
        table = self.lakehouse.find_table(ALERTS.name)
        if table is None:
            return []
        return sorted(table.to_pyarrow_table().to_pylist(), key=lambda row: (row["at"], row["alert_id"]))

    def read_short(self) -> list[tuple[str, str, int]]:
        """Key, transition and rows of each, in order of key and time."""
        rows = sorted(self.read(), key=lambda row: (row["key"], row["at"], row["transition"] != "opened"))
        return [(row["key"], row["transition"], row["rows"]) for row in rows]
