"""Features as Spark computes them on a stream, from the table of cards: the same that the model has learnt from."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given

from platform_assets.fraud.card_features import CardFeatures
from platform_assets.fraud.card_features_table import CARD_FEATURES
from platform_assets.fraud.features import CARD_PREFIX, DUCKDB_FUNCTIONS, FEATURES, FEATURES_LAG, FRAUD_DEVICES
from platform_assets.fraud.fraud_devices import FraudDevices
from platform_assets.fraud.training_rows import read_training_rows
from platform_assets.streaming.arrow_types import as_arrow
from platform_assets.tables.fraud import FRAUD_SERVING
from platform_assets.topics.transactions import TRANSACTIONS
from resources.duckdb import DuckDBResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.generated_cases import examples
from tests.known_cards import DAY, MIDNIGHT, NOON, assert_same_features, histories, write_gold, write_transactions
from tests.payments_with_fraud import write_reports
from tests.spark.card_cases import Transaction, transaction, transactions_table

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

COLUMNS = (
    "transaction_id", "kind", "event_time", "card_id", "merchant_id", "merchant_category", "amount", "currency",
    "country", "channel", "device",
)  # fmt: skip


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    resource = DuckDBResource.from_settings(Settings(home=tmp_path_factory.mktemp("home"), reports_memory_mib=256))
    with resource.connected() as opened:
        yield opened


def select_features(rows: DataFrame) -> list[dict[str, Any]]:
    from pyspark.sql import functions as F

    chosen = rows.select("transaction_id", *(F.expr(each.serving_sql).alias(each.name) for each in FEATURES))
    return list(chosen.toArrow().to_pylist())


def join_cards(spark: SparkSession, transactions: pa.Table, cards_uri: str) -> DataFrame:
    from pyspark.sql import functions as F

    cards = spark.read.format("delta").load(cards_uri)
    cards = cards.select([F.col(name).alias(f"{CARD_PREFIX}{name}") for name in cards.columns])
    paid = spark.createDataFrame(transactions.select(COLUMNS))
    return paid.join(F.broadcast(cards), paid["card_id"] == cards[f"{CARD_PREFIX}card_id"], "left")


@examples(3)
@given(histories())
def test_serving_equals_training(
    spark: SparkSession,
    tmp_path_factory: pytest.TempPathFactory,
    connection: duckdb.DuckDBPyConnection,
    transactions: list[Transaction],
) -> None:
    """Each card pays at one moment in many ways, and the table is as of `FEATURES_LAG` before it."""
    lakehouse = LakehouseResource(root=str(tmp_path_factory.mktemp("lakehouse")))
    as_of = NOON - FEATURES_LAG
    probes = [{**each, "event_time": NOON} for each in transactions]
    probes.append(transaction("never seen", NOON, currency="XXX", country=None, channel=None))
    history = [each for each in transactions if each["event_time"] < as_of]
    write_gold(lakehouse, history)
    features = CardFeatures(lakehouse, connection)
    features.write(features.compute(as_of))
    uri = lakehouse.table_uri(CARD_FEATURES.name)
    write_reports(lakehouse, [("some", MIDNIGHT - DAY), ("some more", MIDNIGHT)], "c1")
    devices = FraudDevices(lakehouse, connection).read(as_of)
    rows = join_cards(spark, transactions_table(probes), uri)
    serving = spark.createDataFrame([(devices,)], f"{FRAUD_DEVICES} map<string,int>")
    served = select_features(rows.crossJoin(serving))

    # What comes later is there when the model learns.
    everything = [*probes, *transactions]
    write_transactions(lakehouse, everything)
    write_gold(lakehouse, everything)
    trained = read_training_rows(lakehouse, connection, NOON + 30 * DAY).to_pylist()
    by_id = {row["transaction_id"]: row for row in trained}
    assert len(served) == len(probes)
    for row in served:
        assert_same_features(row, {each.name: by_id[row["transaction_id"]][each.name] for each in FEATURES})


def test_spark_and_duckdb_say_the_same_of_odd_values(spark: SparkSession) -> None:
    from pyspark.sql import functions as F

    held = {"EUR": 0.0, "it's": 1e300, "\U0001f600": 5e-324}
    known: dict[str, Any] = {
        "known_days": 1, "usual_amounts": held, "countries": ["it's", "DE"], "devices": [""], "recent_payments": 2**62,
        "recent_countries": 0, "recent_merchants": 3, "hour_payments": 1, "hour_amounts": held,
        "hour_mean_amounts": held,
    }  # fmt: skip
    nothing: dict[str, Any] = dict.fromkeys(known)
    times = [datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), datetime(9999, 12, 31, 12, tzinfo=UTC), NOON]
    paid = [
        {"transaction_id": f"t{n}", "kind": kind, "event_time": times[n % 3], "amount": amount, "currency": currency,
         "country": country, "channel": channel, "device": device, "merchant_category": None,
         FRAUD_DEVICES: devices, **{f"{CARD_PREFIX}{name}": value for name, value in card.items()}}
        for n, (kind, amount, currency, country, channel, device, card, devices) in enumerate(
            (kind, amount, currency, country, channel, device, card, devices)
            for kind in ("refund", None)
            for amount in (None, Decimal("0.00"), Decimal("0.01"), Decimal("9999999999999999.99"), Decimal("-1.00"))
            for currency in (None, "EUR", "it's", "\U0001f600", "none")
            for country in (None, "DE", "it's", "")
            for channel, device in ((None, ""), ("online", ""), ("recurring", None), ("online", "é"))
            for card, devices in ((known, {"": 3, "é": 2**31 - 1}), (nothing, {}), (nothing, None))
        )
    ]  # fmt: skip
    types = {c.name: c.type for c in TRANSACTIONS.columns}
    types |= {f"{CARD_PREFIX}{c.name}": c.type for c in CARD_FEATURES.columns}
    types |= {c.name: c.type for c in FRAUD_SERVING.columns if c.name == FRAUD_DEVICES}
    schema = pa.schema([(name, as_arrow(types[name])) for name in paid[0]])
    rows = pa.Table.from_pylist(
        [{n: list(v.items()) if isinstance(v, dict) else v for n, v in each.items()} for each in paid], schema
    )
    ddl = ", ".join(f"`{name}` {types[name]}" for name in paid[0])
    # Rows that Spark could fold while it plans would not run the generated code.
    found = select_features(spark.createDataFrame(paid, ddl).repartition(2).where(F.rand() >= 0))
    with duckdb.connect() as plain:
        plain.execute("SET TimeZone = 'UTC'")
        for statement in DUCKDB_FUNCTIONS:
            plain.execute(statement)
        plain.register("paid", rows)
        features = ", ".join(f'{each.serving_sql} AS "{each.name}"' for each in FEATURES)
        expected = plain.sql(f"SELECT transaction_id, {features} FROM paid").to_arrow_table().to_pylist()
    assert len(found) == len(expected) == len(paid)
    by_id = {row["transaction_id"]: row for row in expected}
    for row in found:
        assert_same_features(row, by_id[row["transaction_id"]])


def test_the_time_zone_of_a_session_changes_no_hour(spark: SparkSession) -> None:
    rows = spark.createDataFrame(transactions_table([transaction("c", NOON + timedelta(hours=n)) for n in range(3)]))
    hour = next(each.serving_sql for each in FEATURES if each.name == "hour_of_day")
    usual = spark.conf.get("spark.sql.session.timeZone") or "UTC"
    try:
        spark.conf.set("spark.sql.session.timeZone", "Asia/Kolkata")
        assert sorted(row[0] for row in rows.selectExpr(hour).collect()) == [12.0, 13.0, 14.0]
    finally:
        spark.conf.set("spark.sql.session.timeZone", usual)
