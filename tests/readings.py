"""A topic that is not the shop's: readings of devices, with other columns; and one that has no roles at all."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from deltalake import write_deltalake

from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table
from platform_assets.streaming.result_span import ResultSpan
from platform_assets.streaming.rules import events_in_windows
from platform_assets.streaming.stream_spec import KafkaStream, TableSource, TableStream
from platform_assets.streaming.topic_spec import EventTime, Record, Topic
from platform_assets.tables.spec import Column, TableSpec

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from resources.lakehouse import LakehouseResource

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


class Reading(Record):
    reading_id: str
    device: str
    kind: str
    at: str


class Pulse(Record):
    level: float
    at: str


READINGS = KafkaStream(
    Topic(
        "readings", "Readings", "readings", Reading, EventTime("at"), event_id=("reading_id",), subject="device",
        event_type="kind",
    )
)  # fmt: skip
PULSES = KafkaStream(Topic("pulses", "Pulses", "pulses", Pulse, EventTime("at")))


def _find_runs(rows: DataFrame) -> DataFrame:
    from pyspark.sql import functions as F

    runs = rows.groupBy("device", F.session_window("event_time", "30 minutes").alias("run"))
    first, last = F.min("event_time").alias("run_start"), F.max("event_time").alias("run_end")
    found = runs.agg(first, last, F.count("*").alias("n"))
    return found.select("device", "run_start", "run_end", "n", F.to_date("run_start").alias("run_date"))


RUNS = TableStream(
    name="runs",
    source=TableSource(READINGS.main_table, ("device", "event_time"), "event_time", timedelta(0)),
    tables=(
        TableSpec(
            "gold.runs", "What a device has read without a pause", "device x run", ("device", "run_start"),
            (
                Column("device", "string", "Device"), Column("run_start", "timestamp", "First"),
                Column("run_end", "timestamp", "Last"), Column("n", "bigint", "Readings"),
                Column("run_date", "date", "Day"),
            ),
            partition_columns=("run_date",), statistics_columns=("run_start", "run_end"),
        ),
    ),
    transform=_find_runs,
    span=ResultSpan(
        "run_start", "run_end", reach=timedelta(0), inactivity=30 * MINUTE, by_user=True, user_column="device",
        longest=timedelta(days=1),
    ),
    rule="""
        SELECT device, min(event_time) AS run_start, max(event_time) AS run_end, count(*) AS n,
               min(event_time)::DATE AS run_date
        FROM (SELECT *, sum(is_first) OVER (PARTITION BY device ORDER BY event_time) AS run FROM (
          SELECT *, (event_time - lag(event_time) OVER (PARTITION BY device ORDER BY event_time)
                     > INTERVAL '30 minutes')::INT AS is_first FROM events))
        GROUP BY device, coalesce(run, 0)""",
)  # fmt: skip


def _count_by_minute(rows: DataFrame) -> DataFrame:
    from pyspark.sql import functions as F

    return rows.groupBy(F.window("event_time", "1 minute").alias("w"), "kind").agg(F.count("*").alias("n")).select(
        F.col("w.start").alias("window_start"), F.col("w.end").alias("window_end"), "kind", "n"
    )  # fmt: skip


MINUTES = TableStream(
    name="minutes",
    source=TableSource(
        READINGS.main_table, ("event_time", "kind"), "event_time", timedelta(0), event_types=("heat", "light")
    ),
    tables=(
        TableSpec(
            "gold.minutes", "Readings by kind", "window x kind", ("window_start", "kind"),
            (
                Column("window_start", "timestamp", "Start"), Column("window_end", "timestamp", "End"),
                Column("kind", "string", "Kind"), Column("n", "bigint", "Readings"),
            ),
            statistics_columns=("window_start",),
        ),
    ),
    transform=_count_by_minute,
    span=ResultSpan("window_start", "window_end", reach=MINUTE, window=(MINUTE, MINUTE)),
    rule=f"""
        SELECT window_start, window_end, kind, count(*) AS n
        FROM ({events_in_windows(MINUTE, MINUTE, "kind", "heat", "light")}) GROUP BY ALL""",
    write_mode="upsert",
)  # fmt: skip


def _count_pulses(rows: DataFrame) -> DataFrame:
    from pyspark.sql import functions as F

    return rows.groupBy(F.window("event_time", "1 minute").alias("w")).agg(F.count("*").alias("n")).select(
        F.col("w.start").alias("window_start"), F.col("w.end").alias("window_end"), "n"
    )  # fmt: skip


BEATS = TableStream(
    name="beats",
    source=TableSource(PULSES.main_table, ("event_time",), "event_time", timedelta(0)),
    tables=(
        TableSpec(
            "gold.beats", "Pulses by minute", "window", ("window_start",),
            (
                Column("window_start", "timestamp", "Start"), Column("window_end", "timestamp", "End"),
                Column("n", "bigint", "Pulses"),
            ),
            statistics_columns=("window_start",),
        ),
    ),
    transform=_count_pulses,
    span=ResultSpan("window_start", "window_end", reach=MINUTE, window=(MINUTE, MINUTE)),
    rule="""
        SELECT time_bucket(INTERVAL '1 minute', event_time) AS window_start,
               window_start + INTERVAL '1 minute' AS window_end, count(*) AS n FROM events GROUP BY ALL""",
    write_mode="upsert",
)  # fmt: skip


def reading(device: str, minute: float, kind: str = "heat", **columns: Any) -> dict[str, Any]:
    """A row of `silver.readings`, but for its coordinates."""
    at = NOON + minute * MINUTE
    row = {"reading_id": f"{device}/{minute}/{kind}", "device": device, "kind": kind, "event_time": at}
    return {**row, "is_anonymous": False, **columns}


def append(
    lakehouse: LakehouseResource, spec: TableSpec, rows: Sequence[dict[str, Any]], first_offset: int = 0
) -> None:
    """Writes a table of accepted records as a stream would have, in one commit; coordinates are the rows' numbers."""
    whole = [
        {
            "topic": spec.name, "kafka_partition": 0, "kafka_offset": first_offset + number,
            "kafka_timestamp": row["event_time"], "ingested_at": row["event_time"],
            "event_date": row["event_time"].date(), **row,
        }
        for number, row in enumerate(rows)
    ]  # fmt: skip
    table = create_table(lakehouse.table_uri(spec.name), spec)
    write_deltalake(table, pa.Table.from_pylist(whole, build_arrow_schema(spec)), mode="append")
