"""Training rows: what was known of a card when it paid, nothing that came later, and what was reported since."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from hypothesis import given

from platform_assets.fraud.features import FEATURES
from platform_assets.fraud.training_rows import read_training_rows
from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table
from platform_assets.topics.fraud_reports import FRAUD_REPORTS
from resources.duckdb import DuckDBResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.generated_cases import examples
from tests.known_cards import (
    DAY,
    LAG,
    NOON,
    assert_same_features,
    expect_features,
    histories,
    know_card,
    write_gold,
    write_transactions,
)
from tests.spark.card_cases import MICROSECOND, MINUTE, Transaction, transaction

LATER = NOON + 30 * DAY
NAMES = [feature.name for feature in FEATURES]
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    resource = DuckDBResource.from_settings(Settings(home=tmp_path_factory.mktemp("home"), reports_memory_mib=256))
    with resource.connected() as opened:
        yield opened


def make_lakehouse(folder: Path, transactions: list[Transaction]) -> LakehouseResource:
    lakehouse = LakehouseResource(root=str(folder))
    write_transactions(lakehouse, transactions)
    write_gold(lakehouse, transactions)
    return lakehouse


def report(lakehouse: LakehouseResource, *reports: tuple[str, str, datetime]) -> None:
    rows = [
        {
            "report_id": f"r{n}", "transaction_id": of, "verdict": verdict, "event_time": at, "event_date": at.date(),
            "card_id": "c", "customer_id": "u", "source": "customer", "topic": "r", "kafka_partition": 0,
            "kafka_offset": n, "kafka_timestamp": at, "ingested_at": at, "is_anonymous": False,
        }
        for n, (of, verdict, at) in enumerate(reports)
    ]  # fmt: skip
    table = create_table(lakehouse.table_uri(FRAUD_REPORTS.name), FRAUD_REPORTS)
    write_deltalake(table, pa.Table.from_pylist(rows, build_arrow_schema(FRAUD_REPORTS)), mode="append")


@examples(12, quick=3)
@given(histories())
def test_features_are_what_was_known_of_the_card_then(
    tmp_path_factory: pytest.TempPathFactory,
    connection: duckdb.DuckDBPyConnection,
    transactions: list[Transaction],
) -> None:
    lakehouse = make_lakehouse(tmp_path_factory.mktemp("lakehouse"), transactions)
    rows = read_training_rows(lakehouse, connection, LATER).to_pylist()
    assert sorted(row["transaction_id"] for row in rows) == sorted(f"t{n}" for n in range(len(transactions)))
    assert [row["event_time"] for row in rows] == sorted(each["event_time"] for each in transactions)
    for row in rows:
        paid = transactions[int(row["transaction_id"][1:])]
        known = know_card(transactions, paid["card_id"], paid["event_time"] - LAG)
        assert_same_features(row, expect_features(paid, known))


@examples(4)
@given(histories())
def test_later_transactions_change_no_feature(
    tmp_path_factory: pytest.TempPathFactory,
    connection: duckdb.DuckDBPyConnection,
    transactions: list[Transaction],
) -> None:
    transactions.sort(key=lambda each: each["event_time"])
    cut = len(transactions) // 2
    early = make_lakehouse(tmp_path_factory.mktemp("early"), transactions[:cut])
    whole = make_lakehouse(tmp_path_factory.mktemp("whole"), transactions)
    then, since = (read_training_rows(of, connection, LATER).to_pylist() for of in (early, whole))
    by_id = {row["transaction_id"]: row for row in since}
    assert then == [by_id[row["transaction_id"]] for row in then] != []


def test_payments_within_the_lag_are_not_known_and_those_before_it_are(
    tmp_path: Path, connection: duckdb.DuckDBPyConnection
) -> None:
    before = [transaction("c", NOON - LAG - n * MICROSECOND, "10.00") for n in (0, 1, 2)]
    lakehouse = make_lakehouse(tmp_path, [*before, transaction("c", NOON, "40.00")])
    row = read_training_rows(lakehouse, connection, LATER).to_pylist()[-1]
    # The first of the three is at the moment itself.
    assert (row["recent_payments"], row["hour_payments"]) == (2.0, 2.0)


def test_the_newest_verdict_before_the_moment_is_the_label(
    tmp_path: Path, connection: duckdb.DuckDBPyConnection
) -> None:
    lakehouse = make_lakehouse(tmp_path, [transaction("c", NOON + n * MINUTE) for n in range(5)])
    at = NOON + DAY
    report(
        lakehouse,
        ("t0", "fraud", at), ("t0", "no_fraud", at + HOUR),
        ("t1", "no_fraud", at), ("t1", "fraud", at + 2 * HOUR),
        ("t2", "fraud", at), ("t2", "no_fraud", at),
        ("t3", "fraud", at + 9 * DAY), ("unknown", "fraud", at),
    )  # fmt: skip

    def ask(until: datetime) -> dict[str, tuple[bool | None, datetime | None]]:
        rows = read_training_rows(lakehouse, connection, until).to_pylist()
        return {row["transaction_id"]: (row["label"], row["label_known_at"]) for row in rows}

    none = (None, None)
    assert ask(at) == dict.fromkeys(["t0", "t1", "t2", "t3", "t4"], none)
    found = ask(at + HOUR)
    assert (found["t0"], found["t1"], found["t2"], found["t3"]) == ((True, at), (False, at), (True, at), none)
    found = ask(at + 3 * HOUR)
    assert (found["t0"], found["t1"]) == ((False, at + HOUR), (True, at + 2 * HOUR))
    old = NOON + 72 * HOUR
    assert ask(old + 3 * MINUTE)["t3"] == (False, old + 3 * MINUTE)
    assert ask(old + 3 * MINUTE)["t4"] == none
    assert ask(at + 10 * DAY)["t3"] == (True, at + 9 * DAY)


def test_rows_are_those_of_the_span_and_fraud_is_never_left_out(
    tmp_path: Path, connection: duckdb.DuckDBPyConnection
) -> None:
    lakehouse = make_lakehouse(tmp_path, [transaction(f"c{n}", NOON + n * HOUR) for n in range(96)])
    report(lakehouse, *((f"t{n}", "fraud", NOON + 5 * DAY) for n in range(0, 96, 7)))

    def ask(**options: Any) -> list[str]:
        return list(read_training_rows(lakehouse, connection, **options)["transaction_id"].to_pylist())

    span = {"since": NOON + 10 * HOUR, "until": NOON + 50 * HOUR}
    assert ask(**span) == [f"t{n}" for n in range(10, 50)]
    some = ask(until=LATER, honest_one_of=4)
    assert {f"t{n}" for n in range(0, 96, 7)} < set(some)
    assert 14 < len(some) < 60
    assert set(some) == set(ask(until=LATER, honest_one_of=4)) < set(ask(until=LATER))


def test_before_there_are_other_tables_nothing_is_known(tmp_path: Path, connection: duckdb.DuckDBPyConnection) -> None:
    lakehouse = LakehouseResource(root=str(tmp_path))
    write_transactions(lakehouse, [transaction("c", NOON, country=None)])
    (row,) = read_training_rows(lakehouse, connection, LATER).to_pylist()
    assert {name for name in NAMES if row[name] is None} == set(NAMES) - {
        "ln_amount", "hour_of_day", "kind", "channel", "merchant_category", "currency",
    }  # fmt: skip
    assert read_training_rows(lakehouse, connection, NOON).num_rows == 0
