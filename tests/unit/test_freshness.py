"""Freshness: measured against what feeds a table, never against the clock alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from unittest import mock

import dagster as dg
import pyarrow as pa
import pytest
from deltalake import CommitProperties, write_deltalake

from platform_assets.checks import freshness
from platform_assets.checks.freshness import (
    build_ingest_freshness_checks,
    build_report_freshness_checks,
    judge_derived_table,
    judge_ingest,
    read_last_batch,
    read_last_write,
)
from platform_assets.checks.read_position import read_committed_offsets
from platform_assets.tables.spec import Column, TableSpec
from resources.kafka_open_transactions import HeldBack
from resources.lakehouse import LakehouseResource

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
LIMIT = timedelta(minutes=5)
SPEC = TableSpec("gold.derived", "A table", "one thing", ("n",), (Column("n", "bigint", "Number"),))


def ago(**duration: float) -> datetime:
    return NOW - timedelta(**duration)


@pytest.mark.parametrize(
    ("written", "source_written", "is_fresh"),
    [
        (None, None, True),  # nothing to compute from
        (ago(days=9), ago(days=9), True),  # both stopped at the same time
        (ago(minutes=1), ago(minutes=30), True),  # written after its source
        (ago(minutes=5), NOW, True),  # exactly at the limit
        (ago(minutes=5, microseconds=1), NOW, False),
        (None, ago(days=1), False),  # never written, the source has been for a day
        (ago(days=3), ago(days=2), False),  # stopped a day before its source: stale, however long ago
    ],
)
def test_a_derived_table_is_fresh_unless_its_source_went_on_without_it(
    written: datetime | None, source_written: datetime | None, is_fresh: bool
) -> None:
    assert judge_derived_table(written, ago(days=2), source_written, LIMIT).is_fresh is is_fresh


@pytest.mark.parametrize(
    ("unread", "written", "is_fresh"),
    [
        (0, None, True),
        (0, ago(days=9), True),
        (1, ago(minutes=5), True),
        (1, ago(minutes=5, microseconds=1), False),
        (1, None, False),
    ],
)
def test_ingest_is_fresh_when_nothing_is_unread_or_the_stream_commits(
    unread: int, written: datetime | None, is_fresh: bool
) -> None:
    assert judge_ingest(unread, written, NOW, LIMIT).is_fresh is is_fresh


def write(lakehouse: LakehouseResource, name: str, metadata: str | None = None) -> None:
    write_deltalake(
        lakehouse.table_uri(name),
        pa.table({"n": [1]}),
        mode="append",
        commit_properties=CommitProperties(custom_metadata={"userMetadata": metadata} if metadata else None),
    )


def stream_commit(until: dict[int, int], topic_id: str = "one") -> str:
    ranges = [["t", p, 0, offset] for p, offset in until.items()]
    return json.dumps({"headrace": {"batch": 0, "ranges": ranges, "topic_id": topic_id}})


@dataclass(frozen=True)
class Log:
    """What Kafka holds, as a check asks for it."""

    ends: dict[int, int]
    first: int = 0

    def end_offsets(self, topic: str, *, committed: bool = False) -> dict[int, int]:
        return self.ends

    def beginning_offsets(self, topic: str) -> dict[int, int]:
        return dict.fromkeys(self.ends, self.first)

    def topic_id(self, topic: str) -> str:
        return "one"


def run(
    check: dg.AssetChecksDefinition,
    lakehouse: LakehouseResource,
    ends: dict[int, int],
    held: dict[int, HeldBack] | None = None,
    first: int = 0,
) -> dg.AssetCheckResult:
    kafka = Log(ends, first)
    keys = check.required_resource_keys
    resources = {name: value for name, value in {"lakehouse": lakehouse, "kafka": kafka}.items() if name in keys}
    with mock.patch.object(freshness, "read_held_back", return_value=held or {}):
        verdict = check(dg.build_asset_check_context(resources=resources))
    assert isinstance(verdict, dg.AssetCheckResult)
    return verdict


def test_the_newest_stream_commit_says_how_far_the_table_is(lakehouse: LakehouseResource) -> None:
    write(lakehouse, SPEC.name, stream_commit({0: 5, 1: 7}))
    write(lakehouse, SPEC.name, stream_commit({0: 9, 1: 7}))
    write(lakehouse, SPEC.name)  # somebody else's commit
    assert read_committed_offsets(lakehouse.delta_table(SPEC.name)) == {0: 9, 1: 7}


def test_the_ingest_check_fails_when_a_silent_stream_leaves_records_unread(lakehouse: LakehouseResource) -> None:
    write(lakehouse, SPEC.name, stream_commit({0: 9}))
    (check,) = build_ingest_freshness_checks([SPEC], "t", limit=timedelta(0))
    assert run(check, lakehouse, {0: 9}).passed
    verdict = run(check, lakehouse, {0: 9, 1: 3})
    assert not verdict.passed
    assert "3 records are unread" in str(verdict.description)


@pytest.mark.parametrize(
    ("topic_id", "ends", "first", "said"),
    [
        ("another", {0: 9}, 0, "the topic was created again"),
        ("one", {0: 5}, 0, "Kafka has lost the end of the partition"),
        ("one", {0: 90}, 20, "offsets 9 to 19"),
    ],
)
def test_the_ingest_check_fails_when_the_log_is_not_the_one_that_was_read(
    lakehouse: LakehouseResource, topic_id: str, ends: dict[int, int], first: int, said: str
) -> None:
    write(lakehouse, SPEC.name, stream_commit({0: 9}, topic_id))
    (check,) = build_ingest_freshness_checks([SPEC], "t")
    verdict = run(check, lakehouse, ends, first=first)
    assert (verdict.passed, verdict.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert said in str(verdict.description) and "acknowledge-loss" in str(verdict.description)


@pytest.mark.parametrize(("minutes", "passed"), [(1, True), (600, False)])
def test_the_ingest_check_names_what_waits_behind_an_open_transaction(
    lakehouse: LakehouseResource, minutes: int, passed: bool
) -> None:
    write(lakehouse, SPEC.name, stream_commit({0: 5}))
    (check,) = build_ingest_freshness_checks([SPEC], "t")
    verdict = run(check, lakehouse, {0: 5}, {0: HeldBack(1_234, datetime.now(UTC) - timedelta(minutes=minutes))})
    assert (verdict.passed, verdict.severity) == (passed, dg.AssetCheckSeverity.WARN)
    assert "1,234 records wait behind a transaction that is open since" in str(verdict.description)


def test_the_ingest_check_fails_when_no_stream_ever_ran_and_records_wait(lakehouse: LakehouseResource) -> None:
    (check,) = build_ingest_freshness_checks([SPEC], "t")
    assert run(check, lakehouse, {0: 0}).passed
    assert not run(check, lakehouse, {0: 1}).passed


def test_the_derived_check_fails_when_the_source_was_written_after_the_table(lakehouse: LakehouseResource) -> None:
    (check,) = build_report_freshness_checks([SPEC], "silver.source", limit=timedelta(0))
    assert run(check, lakehouse, {}).passed  # no source yet
    write(lakehouse, "silver.source")
    write(lakehouse, "silver.source")
    assert not run(check, lakehouse, {}).passed  # never computed
    write(lakehouse, SPEC.name)
    assert run(check, lakehouse, {}).passed
    write(lakehouse, "silver.source")
    assert not run(check, lakehouse, {}).passed


def test_upkeep_is_no_write(lakehouse: LakehouseResource) -> None:
    write(lakehouse, SPEC.name)
    write(lakehouse, SPEC.name)
    written = read_last_write(lakehouse.delta_table(SPEC.name))
    version = lakehouse.delta_table(SPEC.name).version()
    lakehouse.delta_table(SPEC.name).optimize.compact()
    assert lakehouse.delta_table(SPEC.name).version() > version
    assert read_last_write(lakehouse.delta_table(SPEC.name)) == written


def test_the_newest_batch_of_one_query_is_found(lakehouse: LakehouseResource) -> None:
    rows = pa.table({"query": ["a", "a", "b"], "started_at": [ago(minutes=2), ago(minutes=1), NOW]})
    write_deltalake(lakehouse.table_uri("platform.query_progress"), rows)
    progress = lakehouse.delta_table("platform.query_progress")
    assert read_last_batch(progress, "a") == ago(minutes=1)
    assert read_last_batch(progress, "c") is None
