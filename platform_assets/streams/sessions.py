"""Stream `sessions`: what each user did between two pauses of more than 30 minutes, by event time, once it is over.

What goes on for longer than a day (a monitor, a kiosk) is cut at midnights (UTC): see `streaming.long_sessions`.
"""

from __future__ import annotations

import functools
from datetime import timedelta
from typing import TYPE_CHECKING

from platform_assets.streaming.result_span import ResultSpan, in_words
from platform_assets.streaming.rules import AMOUNT
from platform_assets.streaming.stream_spec import TableSource, TableStream
from platform_assets.tables.spec import Column, TableSpec
from platform_assets.topics.events import EVENTS

if TYPE_CHECKING:
    from pyspark.sql import Column as SparkColumn
    from pyspark.sql import DataFrame

    from resources.settings import Settings

INACTIVITY = timedelta(minutes=30)
# The setting `longest_session_hours` where nobody sets it.
LONGEST = timedelta(hours=24)

SESSIONS = TableSpec(
    name="gold.sessions",
    description="Sessions: the events of one known user without a pause of more than 30 minutes, by event time; cut at "
    "each midnight (UTC) where they go on for longer than a day.",
    grain="one session of one user",
    key=("user_id", "session_start"),
    columns=(
        Column("user_id", "string", "Who", nullable=False),
        Column("session_start", "timestamp", "Time of the session's first event (UTC)", nullable=False),
        Column("session_end", "timestamp", "Time of the session's last event (UTC)", nullable=False),
        Column("session_date", "date", "UTC day of session_start", nullable=False),
        Column("duration_seconds", "double", "session_end - session_start; 0 for a single event", nullable=False),
        Column("event_count", "bigint", "Events of every type", nullable=False),
        Column("purchase_count", "bigint", "Purchase events", nullable=False),
        Column("total_revenue", "double", "Revenue of the purchases; null: several currencies, or none known"),
        Column("unique_products", "bigint", "Distinct products viewed (page_view); 0, not null", nullable=False),
        Column("device_type", "string", "Of the first event"),
        Column("country", "string", "Of the first event"),
        Column("currency", "string", "Currency of total_revenue; null where none was sent"),
        Column("revenue_by_currency", "string", "JSON: revenue of the purchases by currency, as decimals in text"),
        Column("purchases_without_amount", "bigint", "Purchases whose amount is not known"),
    ),
    partition_columns=("session_date",),
    statistics_columns=("session_start", "session_end"),
)


def build_sessions(events: DataFrame, longest: timedelta = LONGEST) -> DataFrame:
    """Groups events of known users (columns of silver.events) into the sessions of `SESSIONS`.

    Pure. Over a batch, sessions longer than `longest` are cut at its multiples since 1970; over a stream in append mode
    they come as one row when they are over, in whose place others put the parts. The order in which events
    arrive does not matter. A pause of exactly `INACTIVITY` continues a session. The first event is the lowest by
    (event_time, kafka_partition, kafka_offset). Money is summed as decimal(18,2), so the sum does not depend on the
    order. A purchase's revenue that was not sent, or is beyond that type (10^16 and more), is not known.
    """
    from pyspark.sql import functions as F

    is_purchase = F.col("event_type") == "purchase"
    amount = F.col("revenue").try_cast("decimal(18,2)")
    paid = F.struct(F.coalesce("currency", F.lit("")).alias("currency"), amount.alias("amount"))
    first_event = F.min_by(
        F.struct("device_type", "country"), F.struct("event_time", "kafka_partition", "kafka_offset")
    )
    known = events.where("is_anonymous is not true")
    if events.isStreaming:
        sessions = known.groupBy("user_id", F.session_window("event_time", in_words(INACTIVITY)))
    else:
        sessions = _number_parts(known, longest).groupBy("user_id", "number", "part")
    grouped = sessions.agg(
        F.min("event_time").alias("session_start"),
        F.max("event_time").alias("session_end"),
        F.count(F.lit(1)).alias("event_count"),
        F.count(F.when(is_purchase, F.lit(1))).alias("purchase_count"),
        F.count(F.when(is_purchase & amount.isNull(), F.lit(1))).alias("purchases_without_amount"),
        # One by one: no aggregate of Spark's sums by a key within a group.
        F.collect_list(F.when(is_purchase & (amount > 0), paid)).alias("payments"),
        # Not count(distinct): Spark refuses it on a stream.
        F.collect_set(F.when(F.col("event_type") == "page_view", F.col("product_id"))).alias("products"),
        first_event.alias("first"),
    )
    grouped = grouped.withColumn("by_currency", _add_up(F.col("payments")))
    return grouped.select(
        "user_id",
        "session_start",
        "session_end",
        F.to_date("session_start").alias("session_date"),
        ((F.unix_micros("session_end") - F.unix_micros("session_start")) / 1_000_000).alias("duration_seconds"),
        "event_count",
        "purchase_count",
        F.when(F.size("by_currency") == 1, F.get(F.map_values("by_currency"), 0).cast("double"))
        .when((F.size("by_currency") == 0) & (F.col("purchases_without_amount") == 0), F.lit(0.0))
        .alias("total_revenue"),
        F.size("products").cast("bigint").alias("unique_products"),
        F.col("first.device_type").alias("device_type"),
        F.col("first.country").alias("country"),
        F.when(F.size("by_currency") == 1, F.nullif(F.get(F.map_keys("by_currency"), 0), F.lit(""))).alias("currency"),
        F.to_json("by_currency").alias("revenue_by_currency"),
        "purchases_without_amount",
    )


def _number_parts(events: DataFrame, longest: timedelta) -> DataFrame:
    """The events, each with the `number` of its user's session, and its `part`, which is null where nothing is cut."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    by_user = Window.partitionBy("user_id").orderBy("event_time")
    pause = F.col("event_time") - F.lag("event_time").over(by_user)
    begins = F.coalesce(pause > F.expr(f"interval {in_words(INACTIVITY)}"), F.lit(True))
    numbered = events.withColumn("begins", begins.cast("int")).withColumn(
        "number", F.sum("begins").over(by_user.rowsBetween(Window.unboundedPreceding, Window.currentRow))
    )
    micros, session = F.unix_micros("event_time"), Window.partitionBy("user_id", "number")
    length = F.max(micros).over(session) - F.min(micros).over(session)
    limit = F.lit(longest // timedelta(microseconds=1))
    return numbered.withColumn("part", F.when(length > limit, micros - F.pmod(micros, limit)))


def _add_up(payments: SparkColumn) -> SparkColumn:
    """Sums as text by currency, in the order of the codes, of an array of `currency` and `amount`."""
    from pyspark.sql import functions as F

    def total(code: SparkColumn) -> SparkColumn:
        own = F.filter(payments, lambda payment: payment["currency"] == code)
        nothing = F.lit(0).cast("decimal(28,2)")
        return F.aggregate(own, nothing, lambda sum_, payment: (sum_ + payment["amount"]).cast("decimal(28,2)"))

    codes = F.array_sort(F.array_distinct(payments["currency"]))
    return F.map_from_entries(F.transform(codes, lambda code: F.struct(code, total(code).cast("string"))))


# The rows once more, for the check `parity`: without Spark's windows, by the pause before each event.
_RULE = f"""
    WITH ordered AS (
      SELECT *, coalesce(event_time - lag(event_time) OVER own > INTERVAL '{in_words(INACTIVITY)}', true) AS begins
      FROM events WHERE is_anonymous IS NOT TRUE WINDOW own AS (PARTITION BY user_id ORDER BY event_time)),
    numbered AS (
      SELECT *, count(*) FILTER (begins) OVER (
        PARTITION BY user_id ORDER BY event_time ROWS UNBOUNDED PRECEDING) AS number FROM ordered),
    parts AS (
      SELECT *, CASE WHEN max(event_time) OVER own - min(event_time) OVER own > INTERVAL '<longest>'
        THEN time_bucket(INTERVAL '<longest>', event_time, TIMESTAMPTZ '1970-01-01 00:00:00+00')
        ELSE TIMESTAMPTZ '1970-01-01 00:00:00+00' END AS part
      FROM numbered WINDOW own AS (PARTITION BY user_id, number)),
    grouped AS (
      SELECT user_id, number, part, min(event_time) AS session_start, max(event_time) AS session_end,
             count(*) AS event_count,
             count(*) FILTER (event_type = 'purchase') AS purchase_count,
             count(*) FILTER (event_type = 'purchase' AND {AMOUNT} IS NULL) AS purchases_without_amount,
             count(DISTINCT product_id) FILTER (event_type = 'page_view') AS unique_products,
             arg_min({{'device_type': device_type, 'country': country}},
                     (event_time, kafka_partition, kafka_offset)) AS first
      FROM parts GROUP BY user_id, number, part),
    paid AS (
      SELECT user_id, number, part, coalesce(currency, '') AS code, sum({AMOUNT})::VARCHAR AS amount
      FROM parts WHERE event_type = 'purchase' AND {AMOUNT} > 0 GROUP BY ALL),
    money AS (
      SELECT user_id, number, part, to_json(map(list(code ORDER BY code), list(amount ORDER BY code)))::VARCHAR AS sums,
             CASE WHEN count(*) = 1 THEN any_value(amount)::DOUBLE END AS one_sum,
             CASE WHEN count(*) = 1 THEN nullif(any_value(code), '') END AS currency
      FROM paid GROUP BY ALL)
    SELECT user_id, session_start, session_end, session_start::DATE AS session_date,
           (epoch_us(session_end) - epoch_us(session_start)) / 1000000 AS duration_seconds,
           event_count, purchase_count,
           CASE WHEN sums IS NULL AND purchases_without_amount = 0 THEN 0.0 ELSE one_sum END AS total_revenue,
           unique_products, first.device_type AS device_type, first.country AS country,
           currency, coalesce(sums, '{{}}') AS revenue_by_currency, purchases_without_amount
    FROM grouped LEFT JOIN money USING (user_id, number, part)"""


def build_stream(settings: Settings) -> TableStream:
    """The stream with the longest session that the settings say."""
    return _build_stream(timedelta(hours=settings.longest_session_hours))


def _build_stream(longest: timedelta) -> TableStream:
    return TableStream(
        name="sessions",
        source=TableSource(
            table=EVENTS,
            columns=(
                "event_type",
                "event_time",
                "user_id",
                "product_id",
                "device_type",
                "country",
                "revenue",
                "kafka_partition",
                "kafka_offset",
                "is_anonymous",
                "currency",
            ),
            time_column="event_time",
            watermark_delay=timedelta(minutes=10),
        ),
        tables=(SESSIONS,),
        # A prime of its own: queries that trigger at the same moment wait for each other's planning, seconds at times.
        trigger_seconds=19.0,
        transform=functools.partial(build_sessions, longest=longest),
        rule=_RULE.replace("<longest>", in_words(longest)),
        write_mode="append",
        span=ResultSpan(
            "session_start", "session_end", reach=timedelta(0), inactivity=INACTIVITY, by_user=True, longest=longest
        ),
    )


STREAM = _build_stream(LONGEST)
