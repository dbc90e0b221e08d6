"""A lakehouse with whole days of a simulated shop, as the streams would have left it."""

from __future__ import annotations

import io
import itertools
from collections.abc import Collection, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from jobs.simulator.profile import ShopProfile
from jobs.simulator.shop import Shop
from jobs.simulator.simulated_topic import Record
from platform_assets.reports.daily_report import DailyReport, ReportCommit, pin_table
from platform_assets.reports.days import DayRange
from platform_assets.reports.report_engine import ReportEngine
from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table
from platform_assets.streams.sessions import SESSIONS, build_sessions
from platform_assets.streams.view_to_purchase import VIEW_TO_PURCHASE, match_views_with_purchases
from platform_assets.topics.events import EVENTS
from resources.lakehouse import LakehouseResource

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import SparkSession

    from platform_assets.tables.spec import TableSpec

# What compaction makes of a busy day.
FILE_ROWS = 500_000
PARTITIONS = 3


def write_events(lakehouse: LakehouseResource, first: date, days: int, events_a_day: int, users: int) -> int:
    """Appends `days` days to silver.events, a commit a file or day; returns the rows. About 150,000 a second."""
    from deltalake import write_deltalake

    # In order and whole: what is late, doubled or broken has been dealt with before these tables are read.
    profile = ShopProfile(users=users, late=0.0, duplicates=0.0, out_of_order=0.0, unknown_fields=0.0)
    shop = Shop(profile.with_malformed(0.0), seed=7)
    start = datetime(first.year, first.month, first.day, tzinfo=UTC)
    micros = [round((start + timedelta(days=n)).timestamp() * 1e6) for n in (0, days)]
    records = shop.history(micros[0], micros[1], events_a_day / 86_400)
    table = create_table(lakehouse.table_uri(EVENTS.name), EVENTS)
    written = 0
    for values in _in_files(records, min(FILE_ROWS, events_a_day)):
        rows = _parse(values, written)
        write_deltalake(table, rows, mode="append")
        written += len(rows)
    return written


def write_stream_tables(
    spark: SparkSession, lakehouse: LakehouseResource, tables: Collection[TableSpec] = (SESSIONS, VIEW_TO_PURCHASE)
) -> None:
    """Writes those of gold.sessions and gold.view_to_purchase from all of silver.events, by the streams' twins."""
    events = spark.read.format("delta").load(lakehouse.table_uri(EVENTS.name))
    for spec, build in ((SESSIONS, build_sessions), (VIEW_TO_PURCHASE, match_views_with_purchases)):
        if spec not in tables:
            continue
        uri, rows = lakehouse.table_uri(spec.name), build(events)
        create_table(uri, spec)
        if spec.partition_columns:
            rows = rows.repartition(*spec.partition_columns)
        rows.write.format("delta").mode("overwrite").save(uri)


def compute_days(engine: ReportEngine, lakehouse: LakehouseResource, report: DailyReport, days: DayRange) -> None:
    """Computes and writes the days of one report from the tables as they are, in one commit."""
    pinned = [pin_table(lakehouse, source.table) for source in report.inputs]
    inputs = [source.rows_of(table, days) for source, table in zip(report.inputs, pinned, strict=True)]
    commit = ReportCommit(days, {table.name: table.version for table in pinned})
    engine.replace(report.sql, inputs, report.table, commit)


def _in_files(records: Iterator[Record], rows: int) -> Iterator[list[bytes]]:
    while values := [value for _, _, value in itertools.islice(records, rows) if value is not None]:
        yield values


def _parse(values: list[bytes], first_offset: int) -> pa.Table:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.json as pj

    schema = build_arrow_schema(EVENTS)
    text = pa.schema(
        [
            pa.field("timestamp", pa.string()),
            *(f for f in schema if f.name not in ("event_time", "unknown_fields", "ingested_at", "event_date")),
        ]
    )
    read = pj.read_json(
        io.BytesIO(b"\n".join(values)), parse_options=pj.ParseOptions(text, unexpected_field_behavior="ignore")
    ).rename_columns({"timestamp": "event_time"})
    times = pc.cast(pc.utf8_rtrim(read["event_time"], "Z"), pa.timestamp("us")).cast(pa.timestamp("us", tz="UTC"))
    offsets = np.arange(first_offset, first_offset + len(values))
    made = {
        "event_time": times,
        "event_date": times.cast(pa.date32()),
        "topic": pa.repeat("shop", len(values)),
        "kafka_partition": pa.array(offsets % PARTITIONS, pa.int32()),
        "kafka_offset": pa.array(offsets // PARTITIONS, pa.int64()),
        "kafka_timestamp": times,
        "ingested_at": times,
        "unknown_fields": pa.nulls(len(values), pa.string()),
    }
    columns = [made[f.name] if f.name in made else read[f.name] for f in schema]
    return pa.Table.from_arrays([pc.cast(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema)
