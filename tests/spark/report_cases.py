"""Generated shop events and a materialized lakehouse: what the tests of the reports share."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, get_args

import dagster as dg
import duckdb
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from hypothesis import strategies as st

from platform_assets.reports import DAILY_REPORTS
from platform_assets.reports.assets import build_report_assets
from platform_assets.reports.days import build_daily_partitions
from platform_assets.reports.report_engine import EngineName
from platform_assets.reports.spark_engine import translate
from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table
from platform_assets.streaming.stream_spec import TableStream
from platform_assets.streams import sessions, view_to_purchase
from platform_assets.tables.spec import TableSpec
from platform_assets.topics.events import EVENTS
from resources.duckdb import DuckDBResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

Event = dict[str, Any]

# Tables of streams that reports read.
REPORTED = (sessions.SESSIONS, view_to_purchase.VIEW_TO_PURCHASE)
HALF_HOUR = timedelta(minutes=30)
MICROSECOND = timedelta(microseconds=1)

# Before, at and after midnight; the leap day's both ends; the hours in which European clocks are changed.
STARTS = [
    datetime(2024, 2, 28, 23, 20, tzinfo=UTC),
    datetime(2024, 2, 29, 0, 0, tzinfo=UTC),
    datetime(2024, 2, 29, 12, 0, 0, 123456, tzinfo=UTC),
    datetime(2024, 2, 29, 23, 45, tzinfo=UTC),
    datetime(2024, 3, 1, 0, 0, tzinfo=UTC) - MICROSECOND,
    datetime(2024, 3, 31, 0, 55, tzinfo=UTC),
    datetime(2024, 10, 27, 0, 55, tzinfo=UTC),
]
PAUSES = [
    timedelta(0), MICROSECOND, timedelta(seconds=7), timedelta(minutes=11), HALF_HOUR - MICROSECOND, HALF_HOUR,
    HALF_HOUR + MICROSECOND, timedelta(hours=3),
]  # fmt: skip


def event(
    user_id: str,
    event_time: datetime,
    event_type: str = "page_view",
    product_id: str | None = "p1",
    revenue: float | None = None,
    device_type: str | None = "mobile",
    country: str | None = "DE",
    currency: str | None = None,
) -> Event:
    return {
        "user_id": user_id, "event_time": event_time, "event_type": event_type, "product_id": product_id,
        "revenue": (10.0 if event_type == "purchase" else 0.0) if revenue is None else revenue,
        "device_type": device_type, "country": country, "currency": currency,
    }  # fmt: skip


@st.composite
def user_histories(draw: st.DrawFn) -> list[Event]:
    """One user's events, a pause at the border of a session between any two, in any order of arrival."""
    time = draw(st.sampled_from(STARTS))
    events = []
    for _ in range(draw(st.integers(1, 9))):
        kind = draw(st.sampled_from(["page_view", "page_view", "add_to_cart", "remove_from_cart", "purchase"]))
        drawn = event(
            "", time, kind,
            draw(st.sampled_from(["p1", "p1", "p2", None])),
            0.0,
            draw(st.sampled_from(["mobile", "desktop", None])),
            draw(st.sampled_from(["DE", "FR", None])),
            draw(st.sampled_from(["EUR", "EUR", "JPY", None])),
        )  # fmt: skip
        amounts = [0.0, 0.004, 0.005, 1.005, 19.99, 0.1, 12_000.0, 1e17, None]
        events.append({**drawn, "revenue": draw(st.sampled_from(amounts)) if kind == "purchase" else 0.0})
        time += draw(st.sampled_from(PAUSES))
    return draw(st.permutations(events))


def shops(min_users: int = 25) -> st.SearchStrategy[list[Event]]:
    """Many users' histories in one table, some of nobody known: one Spark job then tries dozens of generated cases."""
    users = st.tuples(user_histories(), st.sampled_from([None, None, False, False, True]))
    return st.lists(users, min_size=min_users, max_size=min_users + 15).map(
        lambda histories: [
            {**e, "user_id": f"u{number}", "is_anonymous": is_anonymous}
            for number, (own, is_anonymous) in enumerate(histories)
            for e in own
        ]
    )


def of_known_users(events: Sequence[Event]) -> list[Event]:
    """The events that count for a user, for oracles."""
    return [e for e in events if not e.get("is_anonymous")]


def events_table(events: Sequence[Event], first_offset: int = 0) -> pa.Table:
    """Events as rows of silver.events; the position is the Kafka offset, so ties in time have an order."""
    rows = [
        {
            **e, "event_id": f"e{number}", "topic": "t", "kafka_partition": number % 3, "kafka_offset": number,
            "kafka_timestamp": e["event_time"], "ingested_at": e["event_time"],
            "event_date": e["event_time"].astimezone(UTC).date(), "quantity": 1, "price": 1.0,
        }
        for number, e in enumerate(events, first_offset)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, build_arrow_schema(EVENTS))


def events_frame(spark: SparkSession, events: Sequence[Event]) -> DataFrame:
    """The same for Spark."""
    return spark.createDataFrame(events_table(events))


def with_coordinates(events: Sequence[Event]) -> list[Event]:
    """The events as `events_table` numbers them, for oracles."""
    return [{**e, "kafka_partition": n % 3, "kafka_offset": n} for n, e in enumerate(events)]


def append_events(lakehouse: LakehouseResource, events: Sequence[Event], first_offset: int = 0) -> None:
    """Writes silver.events as a stream would have."""
    table = create_table(lakehouse.table_uri(EVENTS.name), EVENTS)
    write_deltalake(table, events_table(events, first_offset), mode="append")


def apply_rule(stream: TableStream, events: pa.Table) -> pa.Table:
    """What the stream makes of these rows of silver.events once all of it is over, by its rule."""
    assert stream.rule is not None
    schema = build_arrow_schema(stream.main_table)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("events", events)
        return connection.sql(stream.rule).to_arrow_table().select(schema.names).cast(schema)


def write_stream_tables(lakehouse: LakehouseResource, tables: Collection[TableSpec] = REPORTED) -> None:
    """Writes those of the streams' tables that reports read, from all of silver.events, by the streams' rules."""
    events = lakehouse.delta_table(EVENTS.name).to_pyarrow_table()
    for stream in (sessions.STREAM, view_to_purchase.STREAM):
        if stream.main_table in tables:
            table = create_table(lakehouse.table_uri(stream.main_table.name), stream.main_table)
            write_deltalake(table, apply_rule(stream, events), mode="overwrite")


PARTITIONS = build_daily_partitions(date(2024, 1, 1))
ASSETS = {engine: build_report_assets(DAILY_REPORTS, PARTITIONS, engine) for engine in get_args(EngineName)}


def materialize_days(
    lakehouse: LakehouseResource,
    first: str,
    last: str | None = None,
    only: Sequence[TableSpec] = (),
    **options: Any,
) -> dg.ExecuteInProcessResult:
    """Runs `run_reports`, after writing the streams' tables that it reads by their rules, if there are events."""
    if DeltaTable.is_deltatable(lakehouse.table_uri(EVENTS.name)):
        used = [report for report in DAILY_REPORTS if not only or report.table in only]
        write_stream_tables(lakehouse, [source.table for report in used for source in report.inputs])
    return run_reports(lakehouse, first, last, only=only, **options)


def run_reports(
    lakehouse: LakehouseResource,
    first: str,
    last: str | None = None,
    checks: Sequence[dg.AssetChecksDefinition] = (),
    raise_on_error: bool = True,
    tags: Mapping[str, str] | None = None,
    instance: dg.DagsterInstance | None = None,
    only: Sequence[TableSpec] = (),
    spark: SparkSession | None = None,
    assets: Mapping[EngineName, dg.AssetsDefinition] = ASSETS,
) -> dg.ExecuteInProcessResult:
    """All reports or `only` these, in one run, over one day or a range of days, from the tables as they are.

    By Spark where a session is given, else by DuckDB. `assets`: the reports (default: the shop's).
    """
    engine: EngineName = "duckdb" if spark is None else "spark"
    home = Path(str(lakehouse.local_root)).parent / "reports-home"
    range_tags = {} if last is None else {
        "dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last
    }  # fmt: skip
    return dg.materialize(
        [assets[engine], *checks],
        selection=dg.AssetSelection.assets(*(table.asset_path for table in only)) if only else None,
        resources={
            "spark": dg.ResourceDefinition.hardcoded_resource(SimpleNamespace(spark_session=spark)),
            "duckdb": DuckDBResource.from_settings(Settings(home=home)),
            "lakehouse": lakehouse,
        },
        partition_key=first if last is None else None,
        tags={**range_tags, **(tags or {})},
        instance=instance,
        raise_on_error=raise_on_error,
    )


def read_rows(lakehouse: LakehouseResource, name: str) -> list[dict[str, Any]]:
    """All rows, by another reader than Spark, in a stable order."""
    rows = lakehouse.delta_table(name).to_pyarrow_table().to_pylist()
    return sorted(rows, key=lambda row: tuple(str(value) for value in row.values()))


def compute_by_both_engines(spark: SparkSession, sql: str, **relations: pa.Table) -> pa.Table:
    """The rows of a report's SQL over these relations, by DuckDB; Spark must come to the same.

    Doubles may differ in their last bits: each engine interpolates percentiles in its own order.
    """
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for name, rows in relations.items():
            connection.register(name, rows)
            spark.createDataFrame(rows).createOrReplaceTempView(name)
        by_duckdb = connection.sql(sql).to_arrow_table()
    by_spark = spark.sql(translate(sql)).toArrow()
    assert by_duckdb.column_names == by_spark.column_names
    assert rounded(by_duckdb) == rounded(by_spark)
    return by_duckdb


def rounded(rows: pa.Table) -> list[list[str]]:
    """The rows in order, doubles with twelve digits."""

    def show(value: Any) -> str:
        return f"{value:.12g}" if isinstance(value, float) else str(value)

    return sorted([show(value) for value in row.values()] for row in rows.to_pylist())
