"""A user is forgotten: out of every table and file, and whatever else was counted stays right."""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from deltalake import DeltaTable

from jobs.operations.explain import explain
from jobs.operations.forgetting.command import Erasure
from jobs.operations.forgetting.proof import Proof, search_files
from jobs.operations.forgetting.waiting import list_what_waits
from platform_assets.checks.hop_ledger import build_hop_ledger_checks
from platform_assets.checks.ledger import Audit, audit_stream
from platform_assets.checks.ledger_proof import Proof as LedgerProof
from platform_assets.streaming.delta.writer import DeltaWriter
from platform_assets.streaming.register.forgotten_users import Register
from platform_assets.streaming.register.found_traces import NOTHING_ELSE, AlsoErased
from platform_assets.streaming.repair import late_portions
from platform_assets.streaming.repair.requeue import RecordFilter, Requeuer
from platform_assets.streaming.stream_spec import select_derived, select_ingest
from platform_assets.streams import load_streams
from resources.kafka import KafkaResource
from resources.kafka_topics import ensure_topic
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.integration.streams_under_test import StreamsUnderTest
from tests.power_cuts import Steps
from tests.spark.test_parity import run_check

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from platform_assets.streaming.register.found_traces import Traces

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
STREAMS = {stream.name: stream for stream in load_streams()}
(EVENTS_STREAM,) = select_ingest(load_streams())
DERIVED = [name for name in STREAMS if name != "events"]
USER, OTHER = "ann-7", "ann-70"
# `make test` forgets a user with one stream that has rows of users, `make test-long` with all.
FEW = ("sessions",)
OF_ALL = pytest.mark.parametrize("names", [pytest.param(tuple(DERIVED), id="all")], indirect=True)
TABLES_OF_USERS = ["silver.events", "gold.sessions", "gold.high_value_users", "gold.view_to_purchase"]


def build(user: str, minute: int, kind: str, **fields: Any) -> bytes:
    at = NOON + timedelta(minutes=minute, seconds=30 * (kind == "purchase"))
    event = {
        "event_id": f"{user}/{minute}/{kind}", "event_type": kind, "timestamp": at.isoformat(), "user_id": user,
        "product_id": "p", "category": "toys" if user == USER else "books",
        "revenue": 60.0 * (kind == "purchase"), **fields,
    }  # fmt: skip
    return json.dumps(event).encode()


def visit(minutes: range) -> list[bytes]:
    """Both users do the same; what only the one buys is of a category of its own."""
    kinds = ("page_view", "add_to_cart", "purchase")
    return [build(user, minute, kind) for minute in minutes for user in (USER, OTHER) for kind in kinds]


@pytest.fixture
def names(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """The streams over `events` that read along."""
    return getattr(request, "param", FEW)


@pytest.fixture(scope="module")
def written(
    spark: Any, kafka: KafkaResource, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[tuple[str, ...]], StreamsUnderTest]:
    """Gives what the streams of these names have written, once for each choice of streams."""
    return functools.cache(lambda names: write(spark, kafka, tmp_path_factory.mktemp("forget"), names))


def write(spark: Any, kafka: KafkaResource, root: Path, names: tuple[str, ...]) -> StreamsUnderTest:
    """Two hours ago they were closed, and now both are there again: with what is repeated, refused, late, requeued."""
    topic = f"forget-{root.name}"
    ensure_topic(kafka, topic, 1)
    lakehouse = LakehouseResource(root=str(root / "lakehouse"))
    settings = Settings(home=root / "home", kafka_bootstrap_servers="", publish=False)
    streams = StreamsUnderTest.build(spark, kafka, lakehouse, settings, topic, max_record_bytes=900)
    streams.send(
        [
            *visit(range(5)),
            *visit(range(1)),  # repeated
            build(USER, 6, "purchase", product_name="x" * 1000),  # too long, requeued below
            build(USER, 7, "purchase", product_name="x" * 2000),  # too long, for ever
            build(OTHER, 7, "purchase", product_name="x" * 2000),
            b'{"user_id": "' + USER.encode(),  # no JSON
            build(OTHER, 8, "page_view", price="a text", product_name=f"{USER}00"),
            *visit(range(120, 122)),
        ]
    )
    streams.send([b"no JSON"], key=USER.encode())
    streams.drain("events", *names)
    streams.send([build(USER, 3, "purchase", event_id="late"), build(OTHER, 4, "purchase", event_id="late too")])
    streams.drain("events", *names)
    streams = replace(streams, context=replace(streams.context, max_record_bytes=1300))
    requeue(streams)
    streams.drain("events", *names)
    streams.let_go_of_state()
    return streams


@pytest.fixture
def streams(
    written: Callable[[tuple[str, ...]], StreamsUnderTest], names: tuple[str, ...], tmp_path: Path
) -> StreamsUnderTest:
    """The same in a lakehouse of one's own."""
    return written(names).copy_to(tmp_path / "copy")


def names_of(streams: StreamsUnderTest) -> list[str]:
    """The streams over `events` that have read along."""
    uris = {name: streams.context.table_uri(STREAMS[name].main_table.name) for name in DERIVED}
    return [name for name, uri in uris.items() if DeltaTable.is_deltatable(uri)]


def requeue(streams: StreamsUnderTest) -> dict[str, int]:
    requeuer = Requeuer(EVENTS_STREAM, streams.context)
    requeuer.finish()
    planned = requeuer.plan(RecordFilter(), "a test", datetime.now(UTC))
    requeuer.commit(planned)
    return dict(planned.refused)


def forget(
    streams: StreamsUnderTest,
    user: str = USER,
    drain: Callable[[], None] | None = None,
    also: AlsoErased = NOTHING_ELSE,
) -> tuple[Traces, dict[str, int]]:
    erasure = Erasure(user, list(STREAMS.values()), streams.context, "a test", "asked to", also)

    def drain_all() -> None:
        streams.drain(*names_of(streams))

    (found,), rows = erasure.take_out(streams.session, drain or drain_all, lambda line: None)
    erasure.remove_files(lambda: None)
    return found, rows


def lakehouse_of(streams: StreamsUnderTest) -> LakehouseResource:
    return LakehouseResource(root=streams.context.lakehouse_root)


def audit(streams: StreamsUnderTest, proof: LedgerProof | None = None) -> Audit:
    return audit_stream(EVENTS_STREAM, lakehouse_of(streams), streams.kafka, proof)


def prove(streams: StreamsUnderTest, user: str = USER) -> Proof:
    return search_files(lakehouse_of(streams), user)


def prove_sound(streams: StreamsUnderTest, least_rows: int = 1) -> None:
    """The ledger balances, every table equals its twin where it is final, and no hop has a hole."""
    assert audit(streams).breaches == ()
    resources = {"lakehouse": lakehouse_of(streams)}
    for check in build_hop_ledger_checks(STREAMS.values()):
        verdict = check(dg.build_asset_check_context(resources=resources))
        assert isinstance(verdict, dg.AssetCheckResult) and verdict.passed, verdict
    for name in names_of(streams):
        verdict = run_check(streams.session, Path(streams.context.lakehouse_root), name)
        compared = verdict.metadata["compared_rows"].value
        assert isinstance(compared, int) and compared >= least_rows and verdict.passed, verdict.description


def rows_of(streams: StreamsUnderTest, user: str) -> dict[str, int]:
    """The user's rows, by existing table."""
    there = [table for table in TABLES_OF_USERS if DeltaTable.is_deltatable(streams.context.table_uri(table))]
    return {table: sum(row["user_id"] == user for row in streams.rows(table)) for table in there}


def toys_of(streams: StreamsUnderTest) -> list[dict[str, Any]]:
    """What only the one user has bought."""
    return [row for row in streams.rows("gold.revenue_by_category") if row["category"] == "toys"]


@pytest.mark.long
@OF_ALL
def test_no_table_and_no_file_has_the_user_and_all_else_is_right(streams: StreamsUnderTest) -> None:
    others, ours = rows_of(streams, OTHER), rows_of(streams, USER)
    before = audit(streams)
    assert min(ours.values()) > 0 and prove(streams).found and not before.breaches
    assert toys_of(streams)
    found, rows = forget(streams)
    assert (rows["silver.events"], rows["silver.quarantined_events"]) == (ours["silver.events"], 4)
    assert rows["silver.deduplicated_events"] == 3 and rows["platform.requeued_records"] == 1

    assert rows_of(streams, USER) == dict.fromkeys(TABLES_OF_USERS, 0) and rows_of(streams, OTHER) == others
    proof = prove(streams)
    assert proof.found == () and proof.files > 50
    assert prove(streams, OTHER).found, "the proof would have found a user who is there"
    prove_sound(streams)
    after = audit(streams)
    assert after.totals["rows_in"] == before.totals["rows_in"] and after.totals["erased"] == 0
    # A record that was re-ingested is one record.
    assert after.totals["erased_in_all"] == ours["silver.events"] + 3 + 4 - 1

    # What was open then is closed without the user, in time.
    streams.send([build(OTHER, 300, kind) for kind in ("page_view", "purchase")])
    expect_to_stay_out(streams, DERIVED)
    assert toys_of(streams) == []
    waits = "\n".join(list_what_waits([found], select_derived(load_streams()), streams.context, streams.kafka))
    assert "has the user's records until about" in waits and "The state" in waits


def test_the_user_goes_and_stays_out(streams: StreamsUnderTest, names: tuple[str, ...]) -> None:
    others, ours = rows_of(streams, OTHER), rows_of(streams, USER)
    assert min(ours.values()) > 0 and prove(streams).found
    forget(streams)
    assert rows_of(streams, USER) == dict.fromkeys(ours, 0) and rows_of(streams, OTHER) == others
    assert prove(streams).found == () and prove(streams, OTHER).found
    expect_to_stay_out(streams, names)


def expect_to_stay_out(streams: StreamsUnderTest, names: Sequence[str]) -> None:
    """What comes of the user is erased on its arrival; `names` are the streams over `events` that read along."""
    streams.send([build(USER, 310, "purchase"), build(OTHER, 310, "purchase"), b'{"user_id": "ann-7", "price": "x"}'])
    streams.send([b"no JSON"], key=USER.encode())
    streams.drain("events", *names)
    found = audit(streams)
    assert found.breaches == () and found.totals["erased"] == 3
    assert not any(rows_of(streams, USER).values())
    assert prove(streams).found == ()
    prove_sound(streams)
    read = [STREAMS[name] for name in ("events", *names)]
    place = f"{streams.topic}/0"
    newest = max(row["kafka_offset"] for row in streams.rows("platform.erased_records") if row["was"] == "on_arrival")
    said = explain(read, lakehouse_of(streams), streams.kafka, offset=f"{place}/{newest}")
    assert "erased on its arrival" in said[0]
    said = explain(read, lakehouse_of(streams), streams.kafka, offset=f"{place}/0")
    assert "erased after it had been accepted" in said[0]
    said = explain(read, lakehouse_of(streams), streams.kafka, user_id=USER)
    assert "is forgotten since" in said[0]


def test_quarantine_does_not_bring_the_user_back(streams: StreamsUnderTest) -> None:
    """A refused record of which nobody could say whose it was, until the parser has changed."""
    register = Register(streams.context)
    register.write(OTHER, {"forgotten_at": NOON, "erased_at": NOON})
    wider = replace(streams, context=replace(streams.context, max_record_bytes=100_000))
    assert requeue(wider)["forgotten_user"] == 1
    assert audit(wider).breaches == ()


@pytest.mark.long
@OF_ALL
def test_it_may_be_cut_short_anywhere(
    streams: StreamsUnderTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Called again it comes to the same end. The streams have read everything: they are drained at the end only."""

    def forget_undrained(forgetful: StreamsUnderTest) -> None:
        forget(forgetful, drain=lambda: None)

    proved, erasing = audit(streams).proof, set[bool]()
    steps = Steps(monkeypatch, {DeltaWriter: ("put", "replace", "erase", "vacuum")})
    root, into = Path(streams.context.lakehouse_root), tmp_path / "cuts"
    cuts = [streams.at(copy) for copy in steps.copy_before_each(root, into, partial(forget_undrained, streams))]
    expected = audit(streams).totals
    for number, cut in enumerate(cuts):
        assert Register(cut.context).is_half_done() == (number > 0)
        found = audit(cut, proved)
        assert found.breaches == (), "nothing is lost or doubled while the records go"
        erasing.add(found.erasing)
        forget_undrained(cut)
        assert not Register(cut.context).is_half_done()
        assert prove(cut).found == ()
        found = audit(cut)
        assert (found.breaches, found.totals) == ((), expected)
    assert len(cuts) > 15 and erasing == {False, True}
    cuts[-1].drain(*DERIVED)
    prove_sound(cuts[-1])


@pytest.mark.long
@OF_ALL
def test_what_takes_too_long_is_repaired_later(streams: StreamsUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each event counts as if it lay a million others after the one before it."""
    monkeypatch.setattr(late_portions, "_EVENTS_WORTH_SKIPPING", -1)
    hurried = replace(streams, context=replace(streams.context, repair_seconds=0.0))
    forget(hurried)
    waiting = [row for row in streams.rows("platform.late_events") if row["repaired_at"] is None]
    assert waiting and toys_of(streams)
    prove_sound(streams, least_rows=0)
    streams.drain(*DERIVED)
    assert len([row for row in streams.rows("platform.late_events") if row["repaired_at"] is None]) < len(waiting)
    prove_sound(streams)


@pytest.mark.long
@OF_ALL
def test_one_whom_nobody_knows_changes_nothing(streams: StreamsUnderTest) -> None:
    before = {table: streams.version(table) for table in TABLES_OF_USERS}
    _, rows = forget(streams, "nobody")
    assert not any(rows.values())
    prove_sound(streams)
    assert streams.version("silver.events") <= before["silver.events"] + 2, "VACUUM says that it began and ended"
