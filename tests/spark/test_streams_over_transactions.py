"""The streams over silver.transactions: the table that a stream writes = its twin on a batch = its rule in SQL."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.checks.parity import build_parity_checks
from platform_assets.streams import card_days, spend_by_card, velocity
from platform_assets.topics.transactions import TRANSACTIONS
from resources.duckdb import DuckDBResource
from resources.lakehouse import LakehouseResource
from tests.generated_cases import examples
from tests.spark.card_cases import LARGEST, MICROSECOND, MINUTE, Transaction, cards, transaction, transactions_table
from tests.spark.streams_over_table import StreamsOverTable

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

STREAMS = {stream.name: stream for stream in (card_days.STREAM, spend_by_card.STREAM, velocity.STREAM)}
# Alone on its day, and no payment.
CLOSER = transaction("closer", datetime(2024, 12, 1, 12, tzinfo=UTC), kind="reversal")
NOON = datetime(2024, 2, 29, 12, tzinfo=UTC)
WINDOWS = {"card_days": (86_400.0, 86_400.0), "spend_by_card": (3600.0, 600.0), "velocity": (600.0, 60.0)}
CARDS = StreamsOverTable(TRANSACTIONS, STREAMS, transactions_table, CLOSER, WINDOWS, {})
# Hypothesis tries the simplest first: everything at one moment, which is no test of watermarks.
VARIED_CARDS = cards().filter(lambda found: len({each["event_time"] for each in found}) > 30)


def ask(spark: SparkSession, name: str, transactions: list[Transaction]) -> list[dict[str, Any]]:
    """The stream's rows of these transactions; twin and rule must agree."""
    found = CARDS.run_twin(spark, name, transactions)
    assert found == CARDS.ask_rule(name, transactions)
    return found


@examples(3)
@given(cards())
def test_twin_equals_the_rule(spark: SparkSession, transactions: list[Transaction]) -> None:
    for name in STREAMS:
        assert CARDS.run_twin(spark, name, transactions) == CARDS.ask_rule(name, transactions), name


@examples(1)
@given(VARIED_CARDS, st.integers(0, 2**32).map(random.Random))
def test_stream_in_batches_with_restarts_equals_its_twin(
    spark: SparkSession,
    tmp_path_factory: pytest.TempPathFactory,
    transactions: list[Transaction],
    chance: random.Random,
) -> None:
    lakehouse = LakehouseResource(root=str(tmp_path_factory.mktemp("lakehouse")))
    CARDS.assert_restarts_change_nothing(spark, lakehouse, transactions, chance)
    resources = {"lakehouse": lakehouse, "duckdb": DuckDBResource(memory_mib=256)}
    for check in build_parity_checks(list(STREAMS.values()), "duckdb"):
        verdict = check(dg.build_asset_check_context(resources=resources))
        assert isinstance(verdict, dg.AssetCheckResult)
        assert verdict.passed, verdict.description
        assert verdict.metadata["compared_rows"].value


@pytest.mark.long
@examples(1)
@given(VARIED_CARDS, st.integers(0, 2**32).map(random.Random))
def test_late_transactions_are_counted_one_by_one_and_repaired(
    spark: SparkSession,
    tmp_path_factory: pytest.TempPathFactory,
    transactions: list[Transaction],
    chance: random.Random,
) -> None:
    lakehouse = LakehouseResource(root=str(tmp_path_factory.mktemp("lakehouse")))
    CARDS.assert_late_are_listed_and_repaired(spark, lakehouse, transactions, chance)


def test_a_payment_is_in_the_six_hours_that_have_it_and_no_cent_is_lost(spark: SparkSession) -> None:
    paid = [transaction("c", NOON, "0.10", merchant_id=f"m{n % 2}") for n in range(3)]
    rows = ask(spark, "spend_by_card", [*paid, transaction("c", NOON, LARGEST, currency="JPY")])
    euro = [row for row in rows if row["currency"] == "EUR"]
    assert [row["window_start"] for row in euro] == [NOON - 10 * n * MINUTE for n in range(5, -1, -1)]
    assert {(r["total_amount"], r["largest_amount"], r["payment_count"], r["merchants"]) for r in euro} == {
        (Decimal("0.30"), Decimal("0.10"), 3, 2)
    }
    assert {row["total_amount"] for row in rows if row["currency"] == "JPY"} == {LARGEST}


def test_a_sum_holds_more_than_the_largest_payment(spark: SparkSession) -> None:
    rows = ask(spark, "spend_by_card", [transaction("c", NOON, LARGEST) for _ in range(3)])
    assert {row["total_amount"] for row in rows} == {3 * LARGEST}


def test_what_is_given_back_is_in_no_stream(spark: SparkSession) -> None:
    given_back = [transaction("c", NOON, kind=kind) for kind in ("refund", "reversal", "refund")]
    assert all(ask(spark, name, given_back) == [] for name in STREAMS)
    rows = ask(spark, "spend_by_card", [transaction("c", NOON, "7.00"), *given_back])
    assert {(row["total_amount"], row["payment_count"]) for row in rows} == {(Decimal("7.00"), 1)}


@pytest.mark.parametrize(
    ("apart", "windows"), [(0 * MINUTE, 10), (4 * MINUTE, 6), (10 * MINUTE - MICROSECOND, 1), (10 * MINUTE, 0)]
)
def test_velocity_has_the_windows_in_which_a_card_pays_twice(spark: SparkSession, apart: Any, windows: int) -> None:
    twice = [transaction("c", NOON, country="DE"), transaction("c", NOON + apart, country="FR", merchant_id="m2")]
    rows = ask(spark, "velocity", [*twice, transaction("other", NOON)])
    assert len(rows) == windows
    assert {(r["card_id"], r["payment_count"], r["countries"], r["merchants"]) for r in rows} <= {("c", 2, 2, 2)}
    assert {(row["first_payment_at"], row["last_payment_at"]) for row in rows} <= {(NOON, NOON + apart)}


def test_a_country_that_is_not_known_is_none_of_the_countries(spark: SparkSession) -> None:
    paid = [transaction("c", NOON, country=country) for country in (None, None, "DE")]
    assert {row["countries"] for row in ask(spark, "velocity", paid)} == {1}
    assert {row["countries"] for row in ask(spark, "velocity", paid[:2])} == {0}


def test_a_day_has_its_countries_and_the_owners_devices_once_each_in_order(spark: SparkSession) -> None:
    paid = [
        transaction("c", NOON, "1.10", country="PL", channel="online", device="z"),
        transaction("c", NOON + MINUTE, "2.20", country=None, channel="recurring", device="b"),
        transaction("c", NOON + MINUTE, "3.30", country="DE", channel="online", device="z"),
        transaction("c", NOON, "0.00", country="PL", channel="chip", device="a terminal"),
        transaction("c", NOON, channel="online", device="a", country="US", kind="refund"),
    ]
    (row,) = ask(spark, "card_days", paid)
    assert (row["countries"], row["devices"]) == (["DE", "PL"], ["b", "z"])
    assert (row["payment_count"], row["total_amount"]) == (4, Decimal("6.60"))
    day = NOON.replace(hour=0)
    assert (row["window_start"], row["window_end"]) == (day, day + 1440 * MINUTE)


def test_a_day_without_country_and_device_has_none_and_midnight_begins_the_next(spark: SparkSession) -> None:
    midnight = NOON.replace(hour=0) + 1440 * MINUTE
    paid = [transaction("c", at, country=None, channel=None, device="d") for at in (midnight - MICROSECOND, midnight)]
    rows = ask(spark, "card_days", paid)
    assert [row["window_end"] for row in rows] == [midnight, midnight + 1440 * MINUTE]
    assert [(row["countries"], row["devices"]) for row in rows] == [([], []), ([], [])]
