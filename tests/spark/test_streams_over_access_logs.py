"""The stream over silver.access_logs: the table that it writes = its twin on a batch = its rule in SQL."""

from __future__ import annotations

import random
from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.checks.parity import build_parity_checks
from platform_assets.streams import traffic_by_minute
from platform_assets.topics.access_logs import ACCESS_LOGS
from resources.duckdb import DuckDBResource
from resources.lakehouse import LakehouseResource
from tests.generated_cases import examples
from tests.spark.log_cases import LARGEST, MICROSECOND, MINUTE, LogLine, login, logs, logs_table, request
from tests.spark.streams_over_table import StreamsOverTable

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

STREAM = traffic_by_minute.STREAM
NOON = datetime(2024, 2, 29, 12, tzinfo=UTC)
CLOSER = login(datetime(2024, 12, 1, 12, tzinfo=UTC), "closer")
LOGS = StreamsOverTable(ACCESS_LOGS, {STREAM.name: STREAM}, logs_table, CLOSER, {STREAM.name: (60.0, 60.0)}, {})
# Hypothesis tries the simplest first: everything at one moment, which is no test of watermarks.
VARIED = logs().filter(lambda found: len({each["event_time"] for each in found}) > 30)


def ask(spark: SparkSession, lines: list[LogLine]) -> list[dict[str, Any]]:
    """The stream's rows of these lines; twin and rule must agree."""
    found = LOGS.run_twin(spark, STREAM.name, lines)
    assert found == LOGS.ask_rule(STREAM.name, lines)
    return found


@examples(3)
@given(logs())
def test_twin_equals_the_rule_and_plain_python(spark: SparkSession, lines: list[LogLine]) -> None:
    expected: dict[tuple[datetime, str | None], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for each in lines:
        if each["service"] == "web":
            row = expected[each["event_time"].replace(second=0, microsecond=0), each["host"]]
            row[0] += 1
            row[1] += 400 <= each["status"] < 500
            row[2] += each["status"] >= 500
            row[3] += each["bytes_sent"] or 0
    names = ("requests", "client_errors", "server_errors", "bytes_sent")
    found = {(r["window_start"], r["host"]): [r[name] for name in names] for r in ask(spark, lines)}
    assert found == expected


@examples(1)
@given(VARIED, st.integers(0, 2**32).map(random.Random))
def test_stream_in_batches_with_restarts_equals_its_twin(
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory, lines: list[LogLine], chance: random.Random
) -> None:
    lakehouse = LakehouseResource(root=str(tmp_path_factory.mktemp("lakehouse")))
    LOGS.assert_restarts_change_nothing(spark, lakehouse, lines, chance)
    (check,) = build_parity_checks([STREAM], "duckdb")
    resources = {"lakehouse": lakehouse, "duckdb": DuckDBResource(memory_mib=256)}
    verdict = check(dg.build_asset_check_context(resources=resources))
    assert isinstance(verdict, dg.AssetCheckResult)
    assert verdict.passed, verdict.description
    assert verdict.metadata["compared_rows"].value


@pytest.mark.long
@examples(1)
@given(VARIED, st.integers(0, 2**32).map(random.Random))
def test_late_lines_are_counted_one_by_one_and_repaired(
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory, lines: list[LogLine], chance: random.Random
) -> None:
    lakehouse = LakehouseResource(root=str(tmp_path_factory.mktemp("lakehouse")))
    LOGS.assert_late_are_listed_and_repaired(spark, lakehouse, lines, chance)


def test_a_sum_of_sizes_is_larger_than_any_size(spark: SparkSession) -> None:
    lines = [request(NOON, bytes_sent=LARGEST), request(NOON, bytes_sent=LARGEST), request(NOON, bytes_sent=None)]
    (row,) = ask(spark, lines)
    assert (row["requests"], row["bytes_sent"]) == (3, Decimal(2 * LARGEST))


def test_a_minute_ends_with_its_last_microsecond_and_sshd_is_no_request(spark: SparkSession) -> None:
    rows = ask(spark, [request(NOON + MINUTE - MICROSECOND), request(NOON + MINUTE), login(NOON)])
    assert [row["window_start"] for row in rows] == [NOON, NOON + MINUTE]
