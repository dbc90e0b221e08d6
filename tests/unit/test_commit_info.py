"""What a commit says of itself, as it has always been on disk: logs outlive the code that wrote them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from platform_assets.streaming.checkpoint.checkpoint import OffsetRange, PlannedBatch
from platform_assets.streaming.context import StreamContext
from platform_assets.streaming.delta.batch_writer import DeltaBatchWriter
from platform_assets.streaming.delta.commit_info import CommitInfo, CommitKind
from platform_assets.streaming.delta.delta_tables import read_commit_infos
from platform_assets.streaming.frontier import Frontier
from platform_assets.streaming.ingest.batch_ledger import PartitionEntry, build_batch_commit
from platform_assets.tables.spec import Column, TableSpec

CLOCKS = '"clocks":{"ahead":{},"lagging":[0,0],"lagging_time":null,"lagging_latest":[0,0],"delay":0}'
MOVED = (
    '"frontier":1781082000000000,"frontier_partitions":{"0":1781082000000000},"latest_event":1781082000000000,'
    f"{CLOCKS}"
)
BATCH_OF_EVENTS = '"query":"events","app":"headrace/events/g","batch":3,"ranges":[["shop",0,0,10]]'
ENTRY = (
    '{"topic":"shop","kafka_partition":0,"from_offset":0,"until_offset":10,"rows_in":9,"accepted":7,"quarantined":1,'
    '"deduplicated":1,"erased":0,"gaps":[[4,5]]}'
)
BATCH_OF_SESSIONS = '"query":"sessions","app":"headrace/sessions/g","batch":4'
REQUEUE = '"query":"events","app":"headrace/requeue","batch":2,"requeue":2'
PLANNED = PlannedBatch(3, 1781092800000000, (OffsetRange("shop", 0, 0, 10),))
ENTRIES = [PartitionEntry(PLANNED.ranges[0], 7, 1, 1, 0, ((4, 5),))]
FRONTIER = Frontier(1781082000000000, {0: 1781082000000000}, 1781082000000000)
OF_EVENTS = ("events", "headrace/events/g")
OF_SESSIONS = ("sessions", "headrace/sessions/g", 4)
OF_REQUEUE = CommitInfo.of_batch("events", "headrace/requeue", 2, kind=CommitKind.REQUEUE, value=2)

# The texts are those that the code wrote when it had no such class; each with what is built for it.
WRITTEN = [
    (
        f'{BATCH_OF_EVENTS},"arrival_micros":1781092800000000,"topic_id":"id","partitions":[{ENTRY}],{MOVED},'
        '"rows_by_type":{"purchase":7},"is_compacted":false,"rows":7',
        replace(
            build_batch_commit(*OF_EVENTS, PLANNED, "id", ENTRIES, FRONTIER, {"purchase": 7}, is_compacted=False),
            rows=7,
        ),
    ),
    (
        f'{BATCH_OF_EVENTS},"arrival_micros":1781092800000000,"topic_id":"","partitions":[{ENTRY}],"frontier":null,'
        f'"frontier_partitions":{{}},"latest_event":null,{CLOCKS},"rows_by_type":{{}},"rows":0',
        replace(build_batch_commit(*OF_EVENTS, PLANNED, "", ENTRIES, Frontier(), {}), rows=0),
    ),
    (
        f'{BATCH_OF_EVENTS},"arrival_micros":1781092800000000,"topic_id":"id","rows":1',
        replace(build_batch_commit(*OF_EVENTS, PLANNED, "id"), rows=1),
    ),
    (
        f'{BATCH_OF_SESSIONS},"source":{{"version":1,"files":-1,"frontier":null}},"rows":5',
        CommitInfo.of_batch(*OF_SESSIONS, source={"version": 1, "files": -1, "frontier": None}, rows=5),
    ),
    (
        f'{BATCH_OF_SESSIONS},"source":{{"version":1,"files":-1,"frontier":7}},"replay":true,"rows":5',
        CommitInfo.of_batch(
            *OF_SESSIONS, kind=CommitKind.REPLAY, source={"version": 1, "files": -1, "frontier": 7}, rows=5
        ),
    ),
    (f'{REQUEUE},"rows":3', replace(OF_REQUEUE, rows=3)),
    (f'{REQUEUE},"rows_by_type":{{"purchase":1}},"rows":1', replace(OF_REQUEUE, rows_by_type={"purchase": 1}, rows=1)),
    (f'"query":"events",{MOVED}', CommitInfo(CommitKind.MARK, query="events", frontier=FRONTIER.as_json())),
    (
        f'"query":"events","reset_time":true,{MOVED}',
        CommitInfo(CommitKind.RESET_TIME, query="events", frontier=FRONTIER.as_json()),
    ),
    (
        '"repair":"sessions","late_events":3,"watermark":"2026-06-10T09:00:00+00:00"',
        CommitInfo(CommitKind.REPAIR, "sessions", notes={"late_events": 3, "watermark": "2026-06-10T09:00:00+00:00"}),
    ),
    ('"repair":"sessions"', CommitInfo(CommitKind.REPAIR, "sessions")),
    ('"replay":"sessions"', CommitInfo(CommitKind.REPLAY, "sessions")),
    ('"replay":"sessions","rows_replaced":9', CommitInfo(CommitKind.REPLAY, "sessions", notes={"rows_replaced": 9})),
    ('"replay_undone":"sessions"', CommitInfo(CommitKind.REPLAY_UNDONE, "sessions")),
    ('"recompute":"sessions"', CommitInfo(CommitKind.RECOMPUTE, "sessions")),
    ('"erasure":"0af3"', CommitInfo(CommitKind.ERASURE, "0af3")),
    ('"erasure":"0af3","erased_rows":12', CommitInfo(CommitKind.ERASURE, "0af3", erased_rows=12)),
    ('"expired_until":"2026-01-21"', CommitInfo(CommitKind.EXPIRY, "2026-01-21")),
    ('"expired":2', CommitInfo(CommitKind.EXPIRED_ROWS, 2)),
    ('"unfinished_batch":true', CommitInfo(CommitKind.UNFINISHED_BATCH)),
    ('"changed_days":{"gold.sessions":4}', CommitInfo(CommitKind.CHANGED_DAYS, {"gold.sessions": 4})),
    ('"forgotten_users":2', CommitInfo(CommitKind.FORGOTTEN_USERS, 2)),
    ('"acknowledged":true', CommitInfo(CommitKind.ACKNOWLEDGED_LOSS)),
    ('"complete_until":true', CommitInfo(CommitKind.COMPLETE_UNTIL)),
    ('"long_sessions":"sessions"', CommitInfo(CommitKind.LONG_SESSIONS, "sessions")),
]
SPEC = TableSpec("silver.numbers", "Numbers", "a number", ("n",), (Column("n", "bigint", "A number"),))


@pytest.mark.parametrize(("body", "info"), WRITTEN, ids=[body[:60] for body, _ in WRITTEN])
def test_a_commit_is_written_and_read_as_before(body: str, info: CommitInfo) -> None:
    text = f'{{"headrace":{{{body}}}}}'
    assert info.as_json() == text
    assert CommitInfo.parse(text) == info


def test_all_kinds_are_among_them() -> None:
    assert {info.kind for _, info in WRITTEN} == set(CommitKind) - {CommitKind.OTHER}


def test_commits_of_other_writers_are_none_of_ours() -> None:
    for text in (None, "", "by hand", '{"report": {"day": "2026-06-10"}}'):
        assert CommitInfo.parse(text) is None


def test_what_newer_code_says_is_kept() -> None:
    text = '{"headrace":{"query":"events","something_new":1}}'
    found = CommitInfo.parse(text)
    assert found == CommitInfo(CommitKind.OTHER, query="events", notes={"something_new": 1})
    assert found.as_json() == text


def test_only_a_batch_has_a_transaction_and_something_that_it_read() -> None:
    infos = [info for _, info in WRITTEN]
    assert all((info.transaction is None) == (info.batch is None) for info in infos)
    assert [info.what_was_read for info in infos[2:8]] == [
        {"ranges": [["shop", 0, 0, 10]]},
        {"source": {"version": 1, "files": -1, "frontier": None}},
        {"source": {"version": 1, "files": -1, "frontier": 7}},
        {"requeue": 2},
        {"requeue": 2},
        {},
    ]


def test_a_table_has_the_text_and_how_many_rows_a_batch_has(tmp_path: Path) -> None:
    table = DeltaBatchWriter(SPEC, StreamContext(str(tmp_path), {}, "earliest", 1, 1.0, 1, None))
    rows, batch, repair = pa.table({"n": [1, 2]}), CommitInfo.of_batch("q", "app", 0, source=7), WRITTEN[9][1]
    table.append(rows, batch)
    table.put(rows, "true", repair)
    table.mark(CommitInfo(CommitKind.MARK, query="q", frontier=FRONTIER.as_json()))
    history = DeltaTable(table.uri).history()
    texts = [json.loads(commit["userMetadata"]) for commit in history if "userMetadata" in commit]
    assert texts == [
        json.loads(f'{{"headrace":{{{body}}}}}')
        for body in (f'"query":"q",{MOVED}', WRITTEN[9][0], '"query":"q","app":"app","batch":0,"source":7,"rows":2')
    ]
    infos = read_commit_infos(DeltaTable(table.uri), None)
    assert [(version, info.kind) for version, info in infos] == [(3, "frontier"), (2, "repair"), (1, "batch")]


def test_a_commit_of_no_batch_cannot_be_written_as_one(tmp_path: Path) -> None:
    table = DeltaBatchWriter(SPEC, StreamContext(str(tmp_path), {}, "earliest", 1, 1.0, 1, None))
    with pytest.raises(ValueError, match="without a batch"):
        table.append(pa.table({"n": [1]}), CommitInfo(CommitKind.REPAIR, "q"))
