"""What the platform does for topics that are not the shop's: by their roles, or not at all where they have none."""

from __future__ import annotations

import dataclasses
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import dagster as dg
import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, write_deltalake

from jobs.operations.explain import explain
from jobs.operations.forgetting.command import Erasure
from jobs.operations.forgetting.topics import list_without_users
from platform_assets.checks.acknowledged_losses import Losses
from platform_assets.checks.busy_users import BusyUserLimits, build_busy_users_checks
from platform_assets.checks.different_content import build_different_content_checks
from platform_assets.checks.event_time import EventTimeLimits, build_event_time_checks
from platform_assets.checks.hop_ledger import _count_erased
from platform_assets.checks.ledger_places import Places
from platform_assets.checks.repeated_events import build_repeated_events_checks
from platform_assets.errors import UsageError
from platform_assets.streaming.context import StreamContext
from platform_assets.streaming.delta.commit_info import CommitInfo, CommitKind
from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table
from platform_assets.streaming.delta.reader import DeltaReader
from platform_assets.streaming.delta.writer import DeltaWriter
from platform_assets.streaming.derive.late_events import as_late, build_repairs
from platform_assets.streaming.derive.long_sessions import LongSessions, take_out_long
from platform_assets.streaming.register.forgotten_users import Register, find_erasures, new_row, put_erasure
from platform_assets.streaming.register.named_users import Mention
from platform_assets.tables.platform import COMPLETE_UNTIL, ERASED_RECORDS, FORGOTTEN_USERS, LATE_EVENTS
from resources.duckdb import DuckDBResource
from resources.lakehouse import LakehouseResource
from tests.readings import BEATS, MINUTE, MINUTES, NOON, PULSES, READINGS, RUNS, append, reading

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.unit

STREAMS = (READINGS, PULSES, RUNS, MINUTES, BEATS)
DAY = timedelta(days=1)
NO_SPARK = cast("SparkSession", None)


class NoTopic:
    def beginning_offsets(self, topic: str) -> dict[int, int]:
        raise AssertionError("Kafka is not asked")

    end_offsets = beginning_offsets


@pytest.fixture
def lakehouse(tmp_path: Path) -> LakehouseResource:
    return LakehouseResource(root=str(tmp_path))


@pytest.fixture
def context(lakehouse: LakehouseResource) -> StreamContext:
    return StreamContext(lakehouse.root_uri, {}, "earliest", 1, 1.0, 1, None)


def run(lakehouse: LakehouseResource, check: dg.AssetChecksDefinition) -> dg.AssetCheckResult:
    resources = {"lakehouse": lakehouse, "duckdb": DuckDBResource(memory_mib=128)}
    verdict = check(dg.build_asset_check_context(resources=resources))
    assert isinstance(verdict, dg.AssetCheckResult)
    return verdict


def rows_of(lakehouse: LakehouseResource, name: str) -> list[dict[str, Any]]:
    return list(lakehouse.delta_table(name).to_pyarrow_table().to_pylist())


def test_types_and_users_are_chosen_only_where_a_column_has_them() -> None:
    with pytest.raises(ValueError, match=r"silver\.pulses has no column of event types"):
        dataclasses.replace(BEATS.source, event_types=("a",))
    with pytest.raises(ValueError, match=r"^beats: rows by user need the user of silver\.pulses"):
        dataclasses.replace(BEATS, span=dataclasses.replace(BEATS.span, by_user=True))
    with pytest.raises(ValueError, match=r"^runs: rows by user .* in a column user_id, too"):
        dataclasses.replace(RUNS, span=dataclasses.replace(RUNS.span, user_column="user_id"))


def test_late_events_have_the_platforms_names_and_nulls_for_what_a_topic_lacks() -> None:
    events = pa.Table.from_pylist([reading("d1", 0), reading("d2", 1, "dark")])
    late = as_late(events, MINUTES.source)
    assert late.select(["event_id", "user_id"]).to_pylist() == [{"event_id": "d1/0/heat", "user_id": "d1"}]
    assert len(as_late(events, RUNS.source)) == 2, "a stream without types takes all"
    nobody = as_late(pa.table({"event_time": [NOON]}), BEATS.source)
    assert nobody.to_pylist() == [{"event_time": NOON, "event_id": None, "user_id": None}]


def test_an_event_is_listed_once_for_its_repair_also_where_its_key_has_nulls(
    lakehouse: LakehouseResource, context: StreamContext
) -> None:
    place = {"topic": "t", "kafka_partition": 0, "kafka_offset": 1, "event_time": NOON, "level": 0.5}
    events = as_late(pa.Table.from_pylist([place, {**place, "level": 0.7}, {**place, "kafka_offset": 2}]), BEATS.source)
    rows = build_repairs(BEATS, events, NOON)
    assert rows["kafka_offset"].to_pylist() == [1, 2]
    late = DeltaWriter(LATE_EVENTS, context)
    for _ in range(2):
        late.put(rows, "t.query = 'beats'", CommitInfo(CommitKind.REPLAY, "pulses"))
    assert len(rows_of(lakehouse, LATE_EVENTS.name)) == 2


def test_a_run_that_goes_on_for_days_is_cut(lakehouse: LakehouseResource, context: StreamContext) -> None:
    for table in (RUNS.main_table, LATE_EVENTS, COMPLETE_UNTIL):
        DeltaReader(table, context)
    append(lakehouse, READINGS.main_table, [reading("monitor", 20 * number) for number in range(-45, 180)])
    midnight = datetime(2026, 3, 2, tzinfo=UTC)
    LongSessions(RUNS, context).list_parts(midnight + DAY + timedelta(hours=2))
    found = [(row["query"], row["user_id"], row["event_id"]) for row in rows_of(lakehouse, LATE_EVENTS.name)]
    assert set(found) == {("runs", "monitor", None)}

    rows = [
        {"device": device, "run_start": NOON, "run_end": NOON + length, "n": 2, "run_date": NOON.date()}
        for device, length in (("monitor", 2 * DAY), ("d1", MINUTE))
    ]
    kept, long = take_out_long(pa.Table.from_pylist(rows, build_arrow_schema(RUNS.main_table)), RUNS.span)
    assert kept["device"].to_pylist() == ["d1"]
    assert long.to_pylist() == [{"event_time": at, "user_id": "monitor"} for at in (NOON, NOON + 2 * DAY)]


def test_checks_are_there_for_what_a_topic_has(lakehouse: LakehouseResource) -> None:
    now = datetime.now(UTC)
    (busy,) = build_busy_users_checks(STREAMS, BusyUserLimits(share=0.5, events=3))
    (repeated,) = build_repeated_events_checks(STREAMS)
    (different,) = build_different_content_checks(STREAMS)
    assert {check.check_key.asset_key.path[-1] for check in (busy, repeated)} == {"readings"}
    assert different.check_key.asset_key.path[-1] == "deduplicated_readings"
    append(lakehouse, READINGS.main_table, [reading("d1", 0), reading("d1", 0, reading_id="x"), reading("d2", 0)])
    assert run(lakehouse, busy).passed and run(lakehouse, repeated).passed and run(lakehouse, different).passed
    append(lakehouse, READINGS.main_table, [reading("d1", 0)], 3)
    assert "1 events since the beginning repeat an reading_id" in str(run(lakehouse, repeated).description)
    verdict = run(lakehouse, busy)
    assert not verdict.passed and "has 3 of 2026-03-01 (75%)" in str(verdict.description)
    # As a word: the digits that stand in its place may have d1 in them.
    assert not re.search(r"\bd1\b", str(verdict))

    append(lakehouse, PULSES.main_table, [{"event_time": now, "level": 0.5}])
    checks = build_event_time_checks((READINGS, PULSES), EventTimeLimits())
    found = [run(lakehouse, check).metadata for check in checks]
    assert [(m["events"].value, m["anonymous_events"].value) for m in found] == [(0, 0), (1, 0)]


def account(lakehouse: LakehouseResource, table: str, topic: str, rows: int) -> None:
    """The batch that read the table's rows says so in a commit of its own."""
    entry = {
        "topic": topic, "kafka_partition": 0, "from_offset": 0, "until_offset": rows, "rows_in": rows,
        "accepted": rows, "quarantined": 0, "deduplicated": 0, "gaps": [],
    }  # fmt: skip
    said = json.dumps({"headrace": {"app": "a", "batch": 0, "partitions": [entry]}})
    events = lakehouse.delta_table(table)
    nothing = events.to_pyarrow_table().slice(0, 0)
    write_deltalake(
        events, nothing, mode="append", commit_properties=CommitProperties(custom_metadata={"userMetadata": said})
    )


def ask(lakehouse: LakehouseResource, **question: str) -> str:
    return "\n".join(explain(STREAMS, lakehouse, NoTopic(), **question))


def test_explain_searches_each_topic_for_what_it_has(lakehouse: LakehouseResource) -> None:
    append(lakehouse, READINGS.main_table, [reading("d1", 0), reading("d2", 0, "dark", is_anonymous=True)])
    append(lakehouse, PULSES.main_table, [{"event_time": NOON, "level": 0.5}])
    for stream, rows in ((READINGS, 2), (PULSES, 1)):
        account(lakehouse, stream.main_table.name, stream.main_table.name, rows)
    said = ask(lakehouse, event_id="d1/0/heat")
    assert "is event d1/0/heat of 2026-03-01 12:00:00 UTC, user d1: accepted into silver.readings" in said
    assert "In the state of runs" in said and "In the state of minutes" in said and "pulses" not in said
    said = ask(lakehouse, offset="silver.readings/0/1")
    assert "counts in sums over all users, and in no row of gold.runs." in said and "minutes" not in said
    said = ask(lakehouse, offset="silver.pulses/0/0")
    assert "is an event of 2026-03-01 12:00:00 UTC: accepted into silver.pulses by batch 0 of pulses" in said
    assert "In the state of beats" in said and "runs" not in said

    create_table(lakehouse.table_uri(RUNS.main_table.name), RUNS.main_table)
    said = ask(lakehouse, user_id="d1")
    assert "gold.runs: no row of user d1" in said
    assert "silver.pulses does not say whose a record is: it is not searched." in said
    assert "1 of its 1 events in silver.readings are anonymous" in ask(lakehouse, user_id="d2")


def test_explain_counts_a_users_events_where_no_table_has_rows_by_user(lakehouse: LakehouseResource) -> None:
    append(lakehouse, READINGS.main_table, [reading("d1", 0), reading("d1", 1), reading("d2", 0, is_anonymous=True)])
    streams = [stream for stream in STREAMS if stream.name != RUNS.name]
    for user, said in (
        ("d1", "User d1 has 2 of the 3 events in silver.readings; no table over it has rows of one user each."),
        ("d3", "User d3 has 0 of the 3 events in silver.readings"),
        ("d2", "They count in sums over all users."),
    ):
        assert said in "\n".join(explain(streams, lakehouse, NoTopic(), user_id=user))


def test_an_erasure_leaves_a_topic_without_users_alone(lakehouse: LakehouseResource, context: StreamContext) -> None:
    for table in (*READINGS.tables, *PULSES.tables, RUNS.main_table, LATE_EVENTS):
        create_table(lakehouse.table_uri(table.name), table)
    append(lakehouse, READINGS.main_table, [reading("dev-1", 0), reading("dev-2", 0), reading("dev-1", 1, "light")])
    append(lakehouse, PULSES.main_table, [{"event_time": NOON, "level": 0.5}])
    runs = [
        {"device": device, "run_start": NOON, "run_end": NOON + MINUTE, "n": 2, "run_date": NOON.date()}
        for device in ("dev-1", "dev-2")
    ]
    write_deltalake(
        lakehouse.delta_table("gold.runs"), pa.Table.from_pylist(runs, build_arrow_schema(RUNS.main_table)),
        mode="append",
    )  # fmt: skip
    for number, (value, name) in enumerate(((b'{"device": "dev-1"', "dev-1"), (b'{"device": "dev-3"', "dev-3"))):
        rejected = {
            "key": name.encode(), "value": value, "topic": "silver.readings", "kafka_partition": 0,
            "kafka_offset": 3 + number, "kafka_timestamp": NOON, "reason": "no JSON", "quarantined_at": NOON,
        }  # fmt: skip
        quarantined = READINGS.tables[1]
        write_deltalake(
            lakehouse.delta_table(quarantined.name),
            pa.Table.from_pylist([rejected], build_arrow_schema(quarantined)), mode="append",
        )  # fmt: skip
    (traces,), rows = Erasure("dev-1", STREAMS, context, "a test", "asked to").take_out(
        NO_SPARK, lambda: None, lambda line: None
    )
    assert (rows["silver.readings"], rows["silver.quarantined_readings"], rows["gold.runs"]) == (2, 1, 1)
    assert traces.table == "silver.readings" and traces.unsure == ()
    assert [row["device"] for row in rows_of(lakehouse, "silver.readings")] == ["dev-2"]
    assert [row["device"] for row in rows_of(lakehouse, "gold.runs")] == ["dev-2"]
    assert len(rows_of(lakehouse, "silver.pulses")) == 1
    late = [(row["query"], row["user_id"], row["event_id"]) for row in rows_of(lakehouse, LATE_EVENTS.name)]
    assert late == [("minutes", None, None)] * 2, "what sums up all devices is computed again, and nobody is named"
    assert {row["kafka_offset"] for row in rows_of(lakehouse, ERASED_RECORDS.name)} == {0, 2, 3}
    assert list_without_users(STREAMS) == ("silver.pulses does not say whose a record is: it is left as it is.",)
    with pytest.raises(UsageError, match="nobody to forget"):
        Erasure("dev-1", [PULSES, BEATS], context, "a test", "asked to")
    (row,) = rows_of(lakehouse, FORGOTTEN_USERS.name)
    version = DeltaTable(lakehouse.table_uri("silver.readings")).version()
    assert find_erasures(row, "silver.readings") == [(version, 2)] and find_erasures(row, "silver.events") == []
    hops = pa.table({"until_version": [0, version]})
    assert [_count_erased(lakehouse, stream, hops) for stream in (RUNS, BEATS)] == [2, 0]
    names = Register(context).names
    assert names.find_rows(pa.table({"device": ["dev-1", "dev-2"]}), "device").tolist() == [True, False]
    refused = {"device": [None], "_reason": ["no JSON"], "_key": [None], "_value": [b'{"device": "dev-1"']}
    roles = READINGS.main_table.roles
    assert names.judge_records(pa.table(refused), roles).tolist() == [Mention.CERTAIN]
    assert names.find_rows(pa.table({"level": [0.5]}), None).tolist() == [False]


def test_the_register_tells_the_erasures_of_each_table_apart() -> None:
    row = new_row("a test", "asked to", NOON)
    for table, version, rows in (
        ("silver.events", 3, 5), ("silver.readings", 3, 2), ("silver.events", 7, 1), ("silver.readings", 4, 1),
        ("silver.readings", 4, 1), ("silver.events", 7, 1),
    ):  # fmt: skip
        row = put_erasure(row, table, version, rows)
    assert find_erasures(row, "silver.events") == [(3, 5), (7, 1)]
    assert find_erasures(row, "silver.readings") == [(3, 2), (4, 1)]
    assert (row["events_version"], row["events_erased"]) == (7, 1)
    of_older_code = {**new_row("a", "b", NOON), "events_version": 9, "events_erased": 4, "earlier_erasures": "[[2, 1]]"}
    assert find_erasures(of_older_code, "silver.events") == [(2, 1), (9, 4)]


def test_erased_records_of_another_topic_are_no_breach_of_the_ledger() -> None:
    places = Places([], Losses([]))
    record = {"topic": "t", "kafka_partition": 0, "kafka_offset": 1, "arrived_at": NOON, "was": "accepted"}
    erased = pa.Table.from_pylist([{**record, "erased_at": NOON}], build_arrow_schema(ERASED_RECORDS))
    places.add_rows("erased", erased)
    assert places.find_breaches({}) == []
