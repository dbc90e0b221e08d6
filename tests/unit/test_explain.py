"""`headrace explain` of users who are nobody, and of platforms that have only begun or are older than the code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from jobs.operations.explain import explain
from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table
from platform_assets.streams import load_streams
from platform_assets.streams.high_value_users import HIGH_VALUE_USERS
from platform_assets.streams.sessions import SESSIONS
from platform_assets.tables.platform import COMPLETE_UNTIL
from platform_assets.tables.spec import TableSpec
from platform_assets.topics.events import EVENTS
from resources.lakehouse import LakehouseResource

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ACCOUNT = '{"headrace": {"app": "a", "batch": 0, "partitions": [{"topic": "t", "kafka_partition": 0, "from_offset": 0, '
ACCOUNT += '"until_offset": 9, "rows_in": 9, "accepted": 9, "quarantined": 0, "deduplicated": 0, "gaps": []}]}}'


class NoTopic:
    def beginning_offsets(self, topic: str) -> dict[int, int]:
        raise AssertionError("Kafka is not asked")

    end_offsets = beginning_offsets


@pytest.fixture
def lakehouse(tmp_path: Path) -> LakehouseResource:
    return LakehouseResource(root=str(tmp_path))


def write(lakehouse: LakehouseResource, spec: TableSpec, rows: Sequence[Mapping[str, Any]]) -> None:
    table = create_table(lakehouse.table_uri(spec.name), spec)
    write_deltalake(table, pa.Table.from_pylist(list(rows), build_arrow_schema(spec)), mode="append")


def write_events(lakehouse: LakehouseResource, **users: list[bool | None]) -> None:
    """Writes an event for each user and each of these values of whether it is anonymous."""
    flags = [(user, flag) for user, own in users.items() for flag in own]
    rows = [
        {
            "event_id": f"e{n}", "event_type": "purchase", "event_time": NOON, "event_date": NOON.date(),
            "user_id": user, "is_anonymous": flag, "topic": "t", "kafka_partition": 0, "kafka_offset": n,
            "kafka_timestamp": NOON, "ingested_at": NOON,
        }
        for n, (user, flag) in enumerate(flags)
    ]  # fmt: skip
    from deltalake import CommitProperties

    table = create_table(lakehouse.table_uri(EVENTS.name), EVENTS)
    batch = CommitProperties(custom_metadata={"userMetadata": ACCOUNT})
    data = pa.Table.from_pylist(rows, build_arrow_schema(EVENTS))
    write_deltalake(table, data, mode="append", commit_properties=batch)


def ask(lakehouse: LakehouseResource, **question: str) -> str:
    return "\n".join(explain(load_streams(), lakehouse, NoTopic(), **question))


def test_an_anonymous_user_is_explained_with_the_numbers_of_events(lakehouse: LakehouseResource) -> None:
    write_events(lakehouse, guest=[True, True, None], anon=[True], u1=[False, False])
    write(lakehouse, SESSIONS, [])
    said = ask(lakehouse, user_id="guest")
    assert "2 of its 3 events in silver.events are anonymous, as are 3 of all 6 events" in said
    assert "in no row of gold.high_value_users, gold.sessions, gold.view_to_purchase" in said
    assert "anonymous" not in ask(lakehouse, user_id="u1")


def test_of_a_user_who_is_nobody_no_table_is_said_to_hold_rows_in_its_state(lakehouse: LakehouseResource) -> None:
    write_events(lakehouse, guest=[True])
    write(lakehouse, SESSIONS, [])
    assert "in state" not in ask(lakehouse, user_id="guest")
    assert "in state" in ask(lakehouse, user_id="u1")


def test_an_anonymous_event_waits_in_no_state_of_a_stream_by_user(lakehouse: LakehouseResource) -> None:
    write_events(lakehouse, guest=[True], u1=[False])
    said = ask(lakehouse, event_id="e0")
    assert "counts in sums over all users, and in no row of" in said
    assert "In the state of revenue_by_category" in said and "In the state of sessions" not in said
    assert "In the state of sessions" in ask(lakehouse, offset="t/0/1")


def test_a_platform_that_has_only_begun_says_which_table_is_not_there(lakehouse: LakehouseResource) -> None:
    nothing = "The streams have not run yet: there is no table to look into."
    for question in ({"user_id": "u1"}, {"event_id": "e0"}, {"offset": "t/0/0"}):
        assert ask(lakehouse, **question) == nothing
    write_events(lakehouse, u1=[False])
    write(lakehouse, SESSIONS, [])
    said = ask(lakehouse, user_id="u1")
    assert "gold.sessions: no row of user u1" in said and "nothing is final yet" in said
    assert "gold.high_value_users: the table is not there yet, for high_value_users has not run." in said
    assert "accepted into silver.events by batch 0 of events" in ask(lakehouse, event_id="e0")


def test_tables_of_older_code_are_read_without_the_columns_that_are_new(lakehouse: LakehouseResource) -> None:
    write_events(lakehouse, u1=[False])
    whole = {"window_start": NOON, "window_end": NOON + timedelta(minutes=5), "user_id": "u1", "total_spent": 150.0}
    whole |= {"purchase_count": 1, "products_purchased": 1}
    older = pa.Table.from_pylist([whole], build_arrow_schema(HIGH_VALUE_USERS)).select(list(whole))
    write_deltalake(lakehouse.table_uri(HIGH_VALUE_USERS.name), older)
    events = lakehouse.delta_table(EVENTS.name).to_pyarrow_table()
    write_deltalake(
        lakehouse.table_uri(EVENTS.name), events.drop_columns(["is_anonymous"]), mode="overwrite",
        schema_mode="overwrite",
    )  # fmt: skip
    state = {"query": "high_value_users", "complete_until": NOON + timedelta(hours=1)}
    state |= {"watermark": NOON + timedelta(hours=1), "updated_at": NOON}
    complete = [c.name for c in COMPLETE_UNTIL.columns]
    write_deltalake(
        lakehouse.table_uri(COMPLETE_UNTIL.name),
        pa.Table.from_pylist([{n: state.get(n) for n in complete}], pa.schema(
            [field.with_nullable(True) for field in build_arrow_schema(COMPLETE_UNTIL)]
        )),
    )  # fmt: skip
    said = ask(lakehouse, user_id="u1", at=(NOON + timedelta(minutes=1)).isoformat())
    assert "gold.high_value_users" in said and "total_spent 150.0" in said and ": final (final until" in said
