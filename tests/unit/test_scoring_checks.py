"""The checks on scoring: green when all is well, and red or yellow for the one thing that is not."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st

from platform_assets.checks import scored, scoring_quality
from platform_assets.fraud.score_rows import LONGEST_TEXT
from platform_assets.streaming.delta.delta_tables import build_arrow_schema
from platform_assets.streaming.ingest.event_content import hash_contents
from platform_assets.tables.spec import TableSpec
from platform_assets.topics.fraud_scores import FRAUD_SCORES, TOPIC
from platform_assets.topics.transactions import TRANSACTIONS
from resources.duckdb import DuckDBResource
from resources.lakehouse import LakehouseResource

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def write(root: Path, spec: TableSpec, rows: Sequence[Mapping[str, Any]]) -> None:
    table = pa.Table.from_pylist([dict(row) for row in rows], build_arrow_schema(spec))
    write_deltalake(root / spec.name.replace(".", "/"), table, partition_by=["event_date"])


def payment(number: int, age: timedelta) -> dict[str, Any]:
    at = NOW - age
    return {
        "transaction_id": f"t{number}", "event_time": at, "event_date": at.date(), "topic": "card-transactions",
        "kafka_partition": number % 2, "kafka_offset": number, "ingested_at": at,
    }  # fmt: skip


def score(number: int, age: timedelta, **changes: Any) -> dict[str, Any]:
    at = NOW - age
    row = {
        "score_id": f"t{number}", "event_time": at, "event_date": at.date(), "verdict": "clear", "score": 0.1,
        "source_partition": number % 2, "source_offset": number, "ingested_at": at, "model_version": 1,
        "received_at": at, "scored_at": at + timedelta(milliseconds=4), "features_as_of": at - MINUTE, "marks": [],
    }  # fmt: skip
    return row | changes


def compare(payments: Sequence[Mapping[str, Any]], scores: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write(root, TRANSACTIONS, payments)
        write(root, FRAUD_SCORES, scores)
        lakehouse = LakehouseResource(root=folder)
        paid, scores_ = (lakehouse.delta_table(spec.name) for spec in (TRANSACTIONS, FRAUD_SCORES))
        with DuckDBResource(memory_mib=128).connected() as connection:
            return scored.compare(connection, paid, scores_, NOW)


@settings(max_examples=20)
@given(
    st.lists(st.tuples(st.integers(0, 1600), st.booleans(), st.booleans()), min_size=1, max_size=30),
    st.integers(0, 1600),
)
def test_due_and_missing_are_those_of_plain_python(
    history: list[tuple[int, bool, bool]], began_minutes_ago: int
) -> None:
    ages = sorted((minutes for minutes, _, _ in history), reverse=True)
    payments = [payment(number, age * MINUTE) for number, age in enumerate(ages)]
    rows = [
        score(number, age * MINUTE, unscored_reason="no_model" if without else None)
        for number, (age, (_, is_scored, without)) in enumerate(zip(ages, history, strict=True))
        if is_scored and age <= began_minutes_ago
    ]
    found = compare(payments, rows or [score(99_999, timedelta(0), score_id="other", source_partition=7)])

    by_id = {row["score_id"]: row for row in rows}
    window = [each for each in payments if NOW - scored.SPAN <= each["ingested_at"] < NOW - scored.GRACE]
    oldest = min((row["ingested_at"] for row in rows), default=NOW)
    begun = {
        place: min((r["source_offset"] for r in rows if r["source_partition"] == place), default=None)
        for place in (0, 1)
    }
    due = [
        each
        for each in window
        if oldest < NOW - scored.SPAN
        or (begun[each["kafka_partition"]] is not None and each["kafka_offset"] >= begun[each["kafka_partition"]])
    ]
    missing = [each for each in due if each["transaction_id"] not in by_id]
    assert (found["due"], found["missing"]) == (len(due), len(missing))
    places = [f"card-transactions/{each['kafka_partition']}/{each['kafka_offset']}" for each in missing]
    assert set(found["places"] or []) <= set(places)
    assert len(found["places"] or []) == min(5, len(missing))


def test_a_payment_whose_id_is_too_long_to_be_said_again_is_known_by_its_place() -> None:
    long = "é" * (LONGEST_TEXT + 1)
    payments = [payment(0, 9 * MINUTE), payment(1, 8 * MINUTE) | {"transaction_id": long}]
    payments += [payment(2, 7 * MINUTE) | {"transaction_id": long[1:]}, payment(3, 6 * MINUTE)]
    scores = [score(0, 9 * MINUTE), score(1, 8 * MINUTE, score_id="1-1", verdict="unscored")]
    found = compare(payments, [*scores, score(2, 7 * MINUTE, score_id=long[1:]), score(3, 6 * MINUTE)])
    assert (found["due"], found["missing"]) == (4, 0)


def test_a_missing_score_is_an_error_and_no_model_a_warning(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    shift = now - NOW
    resources = {"lakehouse": LakehouseResource(root=str(tmp_path)), "duckdb": DuckDBResource(memory_mib=128)}

    def judge() -> dg.AssetCheckResult:
        verdict = scored.build_scored_check()(dg.build_asset_check_context(resources=resources))
        assert isinstance(verdict, dg.AssetCheckResult)
        return verdict

    assert judge().passed
    write(tmp_path, TRANSACTIONS, [payment(number, 10 * MINUTE - shift) for number in range(4)])
    write(tmp_path, FRAUD_SCORES, [score(number, 9 * MINUTE - shift) for number in range(2)])
    verdict = judge()
    assert (verdict.passed, verdict.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert "card-transactions/0/2, card-transactions/1/3" in str(verdict.description)
    rest = [score(number, 9 * MINUTE - shift, unscored_reason="no_model", verdict="unscored") for number in (2, 3)]
    write(tmp_path / "more", FRAUD_SCORES, rest)
    table = LakehouseResource(root=str(tmp_path / "more")).delta_table(FRAUD_SCORES.name).to_pyarrow_table()
    write_deltalake(tmp_path / "silver/fraud_scores", table, mode="append")
    verdict = judge()
    assert (verdict.passed, verdict.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert verdict.metadata["without_model"].value == 2


def measure(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), FRAUD_SCORES, rows)
        table = LakehouseResource(root=folder).delta_table(FRAUD_SCORES.name)
        with DuckDBResource(memory_mib=128).connected() as connection:
            return scoring_quality.measure(connection, table, NOW)


def many(count: int, hours_ago: float, **changes: Any) -> list[dict[str, Any]]:
    return [score(number, timedelta(hours=hours_ago, seconds=number % 60), **changes) for number in range(count)]


def test_lateness_and_age_are_percentiles_of_the_last_hour() -> None:
    rows = many(990, 0.5) + many(10, 0.5, features_as_of=NOW - timedelta(hours=2)) + many(500, 3)
    found = measure(rows)
    assert found["scores"] == 1000
    assert found["late"] == pytest.approx([4.0, 4.0, 4.0])
    assert scoring_quality.judge_latency(found).passed
    assert not scoring_quality.judge_latency(found | {"late": [4.0, 2_001.0, 3_000.0]}).passed
    assert scoring_quality.judge_age(found).passed
    found = measure(many(100, 0.5, features_as_of=NOW - timedelta(hours=2)))
    assert not scoring_quality.judge_age(found).passed
    found = measure(many(10, 0.5, features_as_of=None, marks=["unknown card"]))
    assert found["unknown_cards"] == 10
    assert scoring_quality.judge_age(found).passed


@pytest.mark.parametrize(("unknown", "unknown_before", "passes"), [(60, 0, False), (60, 300, True), (40, 0, True)])
def test_cards_that_are_unknown_all_at_once_are_noticed(unknown: int, unknown_before: int, passes: bool) -> None:
    """What is known of cards cannot be read, so there is nothing of which the age could be measured."""
    new = many(unknown, 0.5, marks=["unknown card"]) + many(100 - unknown, 0.5)
    old = many(unknown_before, 3, marks=["unknown card"]) + many(500 - unknown_before, 3)
    assert scoring_quality.judge_age(measure(new + old)).passed == passes


def test_the_age_counts_by_the_clock_of_who_scores() -> None:
    """Kafka's time is the sender's by default: one that is an hour behind would make all that is old look new."""
    old = {"received_at": NOW - timedelta(hours=2), "features_as_of": NOW - timedelta(hours=2)}
    assert not scoring_quality.judge_age(measure(many(100, 0.5, **old))).passed


@pytest.mark.parametrize(
    ("alerts", "alerts_before", "passes"),
    [(10, 100, True), (29, 100, True), (31, 100, False), (3, 100, False), (0, 10, True)],
)
def test_the_rate_of_alerts_is_held_against_the_day_before(alerts: int, alerts_before: int, passes: bool) -> None:
    rows = many(alerts, 0.5, verdict="alert") + many(1000 - alerts, 0.5)
    rows += many(alerts_before, 5, verdict="alert") + many(10_000 - alerts_before, 5)
    assert scoring_quality.judge_alerts(measure(rows)).passed is passes


def test_drift_is_the_stability_index_of_the_newest_version() -> None:
    rng = np.random.default_rng(5)
    before, same, other = rng.beta(1, 20, 4000), rng.beta(1, 20, 2000), rng.beta(3, 20, 2000)

    def rows(values: Any, hours_ago: float, version: int = 2) -> list[dict[str, Any]]:
        return [
            score(n, timedelta(hours=hours_ago), score=float(v), model_version=version) for n, v in enumerate(values)
        ]

    older = rows(rng.random(500), 3, version=1)
    well = measure([*rows(same, 0.5), *rows(before, 3), *older])
    assert (well["model_version"], well["of_new"], well["of_old"]) == (2, 2000, 4000)
    assert well["drift"] == pytest.approx(stability_index(before, same), rel=1e-6)
    assert scoring_quality.judge_drift(well).passed
    assert not scoring_quality.judge_drift(measure([*rows(other, 0.5), *rows(before, 3)])).passed
    assert scoring_quality.judge_drift(measure(rows(same, 0.5))).passed


def stability_index(before: Any, after: Any) -> float:
    ordered = sorted(before)
    limits = [ordered[max(0, math.ceil(len(ordered) * place / 10) - 1)] for place in range(1, 10)]

    def counts(values: Any) -> list[float]:
        bands = [0] * 10
        for value in values:
            bands[sum(limit < value for limit in limits)] += 1
        return [(count + 0.5) / len(values) for count in bands]

    pairs = zip(counts(after), counts(before), strict=True)
    return sum((new - old) * math.log(new / old) for new, old in pairs)


def test_a_transaction_that_is_scored_again_is_the_same_and_another_of_its_id_is_not() -> None:
    """A stop passes on again what it had passed on; the check different_content is for ids that stand for two."""
    first = score(1, MINUTE, transaction_id="t1", amount=Decimal("9.99"), currency="EUR", reasons=[])
    anew = {"verdict": "alert", "score": 0.9, "model_version": 2, "scored_at": NOW, "reasons": ["a"], "marks": ["b"]}
    anew |= {"features_as_of": NOW, "holds_card": True, "shadow_version": 1, "shadow_score": 0.2, "source_offset": 7}
    others = ({"amount": Decimal("9.98")}, {"card_id": "other"}, {"customer_id": "other"}, {"event_time": NOW})
    rows = [first, first | anew, *(first | changed for changed in others)]
    table = pa.Table.from_pylist(rows, build_arrow_schema(FRAUD_SCORES))
    with duckdb.connect() as connection:
        found = hash_contents(connection, TOPIC, table).tolist()
    assert found[0] == found[1]
    assert len(set(found)) == 1 + len(others)
