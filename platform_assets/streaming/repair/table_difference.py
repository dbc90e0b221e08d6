"""What two states of a stream's table differ in, wherever both are final. Spark compares, on disk where it must.

Used by the check `parity` (table and twin) and by a replay (table and what the current code makes of the events).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from platform_assets.streaming.result_span import is_comparable, is_touched
from platform_assets.streaming.stream_spec import Stream, TableStream
from platform_assets.tables.spec import Column

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

COPIES = "_copies"
"""An additional column: how many more of a row the left side has; below 0 the right side has them."""
LEFT_ROWS = "_left_rows"
"""How many of a row the left side has."""


def select_columns(rows: DataFrame, columns: Sequence[Column]) -> DataFrame:
    """These columns of a table's rows. One that the table does not have, for older code wrote it last, is null."""
    from pyspark.sql import functions as F

    return rows.select(*(c.name if c.name in rows.columns else F.lit(None).cast(c.type).alias(c.name) for c in columns))


def count_copies(left: DataFrame, right: DataFrame) -> DataFrame:
    """All distinct rows of both sides, which have the same columns, with `COPIES` and `LEFT_ROWS`."""
    from pyspark.sql import functions as F

    sides = left.withColumn(COPIES, F.lit(1)).unionByName(right.withColumn(COPIES, F.lit(-1)))
    counts = (F.sum(COPIES).alias(COPIES), F.count_if(F.col(COPIES) == 1).alias(LEFT_ROWS))
    return sides.groupBy(*left.columns).agg(*counts)


def leave_out_keys(rows: DataFrame, others: DataFrame, stream: Stream) -> DataFrame:
    """The rows whose key in the stream's table none of the others has; a null of a key is a value as any other."""
    from pyspark.sql import functions as F

    key = stream.main_table.key
    same = [F.col(f"r.{name}").eqNullSafe(F.col(f"o.{name}")) for name in key]
    return rows.alias("r").join(others.select(*key).alias("o"), same, "left_anti")


def read_pending(session: SparkSession, late_events_uri: str, stream: TableStream, at: datetime) -> DataFrame:
    """Late events of the stream that waited for their repair at that time: `event_time`, `user_id`."""
    from pyspark.sql import functions as F

    late = session.read.format("delta").load(late_events_uri)
    is_open = F.col("repaired_at").isNull() | (F.col("repaired_at") > F.lit(at))
    return late.where((F.col("query") == stream.name) & is_open).select("event_time", "user_id").distinct()


def select_final(
    rows: DataFrame, late: DataFrame, stream: TableStream, watermark: datetime, start: datetime | None = None
) -> DataFrame:
    """The rows that are final at this watermark, without what these events (`event_time`, `user_id`) touch.

    `start`: events before it were not read; rows that begin so near to it that they may lack some are left out.
    """
    from pyspark.sql import functions as F

    span = stream.span
    is_final = F.expr(is_comparable(span, "r", watermark, start, "spark"))
    late = F.broadcast(late).alias("l")
    return rows.alias("r").where(is_final).join(late, F.expr(is_touched(span, "r", "l")), "left_anti")
