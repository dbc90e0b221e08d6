"""Stream `traffic_by_minute`: requests, errors and bytes of each minute and host, visible while the minute is open."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from platform_assets.streaming.result_span import ResultSpan, in_words
from platform_assets.streaming.rules import events_in_windows
from platform_assets.streaming.stream_spec import TableSource, TableStream
from platform_assets.tables.spec import Column, TableSpec
from platform_assets.topics.access_logs import ACCESS_LOGS, WEB

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

WINDOW = timedelta(minutes=1)

TRAFFIC_BY_MINUTE = TableSpec(
    name="gold.traffic_by_minute",
    description="Requests to a host within a minute: how many, how many were answered with an error, how many bytes.",
    grain="minute x host with at least one request",
    key=("window_start", "window_end", "host"),
    columns=(
        Column("window_start", "timestamp", "First moment of the minute, UTC"),
        Column("window_end", "timestamp", "First moment after the minute, UTC"),
        Column("host", "string", "Site of the requests; null where the server does not log it"),
        Column("requests", "bigint", "Requests"),
        Column("client_errors", "bigint", "Those that were answered with a status of 400 to 499"),
        Column("server_errors", "bigint", "Those that were answered with a status of 500 to 599"),
        Column("bytes_sent", "decimal(38,0)", "Sum of the answers' sizes, of those that were logged"),
    ),
    statistics_columns=("window_start", "window_end"),
)


def sum_traffic(lines: DataFrame) -> DataFrame:
    """Requests, errors and bytes of each minute and host.

    Takes the columns of `STREAM.source`, on a stream or on a batch; returns rows of `TRAFFIC_BY_MINUTE`.
    """
    from pyspark.sql import functions as F

    return (
        lines.where(F.col("service") == WEB)
        .groupBy(F.window("event_time", in_words(WINDOW)).alias("time_window"), "host")
        .agg(
            F.count("*").alias("requests"),
            F.count_if(F.col("status").between(400, 499)).alias("client_errors"),
            F.count_if(F.col("status").between(500, 599)).alias("server_errors"),
            # A decimal, for a size is what somebody wrote: two of the largest would be a negative sum of 64 bits.
            F.coalesce(F.sum(F.col("bytes_sent").cast("decimal(19,0)")), F.lit(0)).cast("decimal(38,0)")
            .alias("bytes_sent"),
        )
        .select(
            F.col("time_window.start").alias("window_start"),
            F.col("time_window.end").alias("window_end"),
            "host",
            "requests",
            "client_errors",
            "server_errors",
            "bytes_sent",
        )
    )  # fmt: skip


# The rows once more, for the check `parity`.
RULE = f"""
    SELECT window_start, window_end, host, count(*) AS requests,
           count(*) FILTER (WHERE status // 100 = 4) AS client_errors,
           count(*) FILTER (WHERE status // 100 = 5) AS server_errors,
           CAST(coalesce(sum(CAST(bytes_sent AS HUGEINT)), 0) AS DECIMAL(38, 0)) AS bytes_sent
    FROM ({events_in_windows(WINDOW, WINDOW, "service", WEB)})
    GROUP BY window_start, window_end, host"""

STREAM = TableStream(
    name="traffic_by_minute",
    source=TableSource(
        table=ACCESS_LOGS,
        columns=("service", "event_time", "host", "status", "bytes_sent"),
        time_column="event_time",
        watermark_delay=timedelta(minutes=5),
        event_types=(WEB,),
    ),
    tables=(TRAFFIC_BY_MINUTE,),
    # A prime of its own: queries that trigger at the same moment wait for each other's planning.
    trigger_seconds=23.0,
    transform=sum_traffic,
    rule=RULE,
    write_mode="upsert",
    span=ResultSpan("window_start", "window_end", reach=WINDOW, window=(WINDOW, WINDOW)),
)
