"""Sinks: a table in a real Postgres is the Delta table at a version, whatever happens to either of them."""

from __future__ import annotations

import logging
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.cli.__main__ import main
from jobs.definitions.streaming_job import build_streaming_job
from jobs.operations.drain import EXIT_DONE, EXIT_FAILED, drain_streams
from jobs.operations.forgetting.sinks import follow_erasure
from jobs.supervision.lease import read_report, request_shutdown
from platform_assets.errors import DatabaseRefusedError, DatabaseUnavailableError, GroupOwnedError, SinkTargetError
from platform_assets.sinks import sink as sink_module
from platform_assets.sinks.sink import Sink
from platform_assets.sinks.sink_group import SinkGroup, find_left_behind
from platform_assets.sinks.table_log import LogGapError
from platform_assets.streaming.stream_spec import StreamGroup, name_sink
from platform_assets.tables.spec import Column
from resources.duckdb import DuckDBResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings, load_settings
from tests.generated_cases import examples
from tests.integration.postgres_server import find_binaries, running_postgres
from tests.integration.s3_lakehouse import build_settings
from tests.integration.sunk_table import FULL_ROW, SCHEMA, SPEC, SunkTable, build_row, fresh_database
from tests.s3_server import BUCKET, running_s3

pytestmark = pytest.mark.skipif(find_binaries() is None, reason="Debian's package postgresql is not installed")

_LIMIT_SECONDS = 60.0
ROOT = Path(__file__).parents[2]
NAME = name_sink(SPEC)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with running_postgres() as found:
        yield found


@pytest.fixture
def table(port: int, lakehouse: LakehouseResource, settings: Settings) -> Iterator[SunkTable]:
    with fresh_database(port) as url:
        yield SunkTable(lakehouse, url, DuckDBResource.from_settings(settings))


@pytest.fixture
def sink(table: SunkTable) -> Iterator[Sink]:
    opened = table.open_sink()
    yield opened
    opened.close()


@pytest.fixture
def group_settings(table: SunkTable, settings: Settings) -> Settings:
    values = {"postgres_url": table.url, "postgres_tables": SPEC.name, "lakehouse": table.lakehouse.root}
    return Settings.model_validate({"home": settings.home, "kafka_bootstrap_servers": "", **values})


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _LIMIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {_LIMIT_SECONDS} s: {what}"
        time.sleep(0.05)


def read_account(table: SunkTable) -> dict[str, Any]:
    names = ("version", "rows", "load_version", "load_portions")
    [row] = table.ask(f"SELECT {', '.join(names)} FROM {SCHEMA}.sinks WHERE name = '{SPEC.name}'")
    return dict(zip(names, row, strict=True))


def test_every_type_arrives_as_it_is(table: SunkTable) -> None:
    table.append([FULL_ROW, build_row(2), build_row(3, "", text="", tags=[], sums={}, raw=b"", amount=-0.0)])
    table.follow()
    table.demand_equal()
    table.append([FULL_ROW | {"number": 4}, build_row(5, text="x" * 5_000_000, amount=5e-324)])
    table.follow()
    table.demand_equal()
    [(text, kinds)] = table.ask(
        f"SELECT text, jsonb_typeof(tags) || jsonb_typeof(sums) FROM {SCHEMA}.gold_sunk_rows WHERE number = 4"
    )
    assert text == 'quoted "x", tab\t, line\n\\.\n, \\N and \r\N{SYMBOL FOR NULL} end'
    assert kinds == "arrayobject"


ROWS = st.builds(
    build_row,
    st.integers(0, 9),
    st.sampled_from([None, "", "a"]),
    small=st.none() | st.integers(-(2**31), 2**31 - 1),
    text=st.none() | st.text(max_size=8),
    amount=st.none() | st.floats(),
    money=st.none() | st.decimals(-(10**20), 10**20, places=2, allow_nan=False),
    is_new=st.none() | st.booleans(),
    at=st.none() | st.datetimes(timezones=st.just(UTC)),
    raw=st.none() | st.binary(max_size=8),
    tags=st.none() | st.lists(st.none() | st.text(max_size=4), max_size=3),
    sums=st.none() | st.dictionaries(st.text(max_size=3).map(lambda t: t.replace("\x00", "")), st.floats(), max_size=3),
)
BATCHES = st.lists(ROWS, min_size=1, max_size=5, unique_by=lambda row: (row["number"], row["part"]))
CHANGES = st.one_of(
    st.tuples(st.just("upsert"), BATCHES),
    st.tuples(st.just("delete"), st.lists(st.integers(0, 9), min_size=1, max_size=4)),
    st.sampled_from([(name, None) for name in ("compact", "vacuum", "cut_log", "look", "one", "restart", "resync")]),
)


@examples(60)
@given(changes=st.lists(CHANGES, min_size=1, max_size=14))
def test_random_histories_end_as_the_delta_table(port: int, tmp_path_factory: Any, changes: list[Any]) -> None:
    """Upserts, erasures, upkeep and sinks that are ended between two transactions, in any order."""
    folder = tmp_path_factory.mktemp("history")
    engine = DuckDBResource.from_settings(Settings(home=folder / "home", kafka_bootstrap_servers=""))
    with fresh_database(port) as url:
        table = SunkTable(LakehouseResource(root=str(folder / "lakehouse")), url, engine)
        table.append([build_row(100)])
        sink = table.open_sink()
        for name, given_rows in changes:
            if name in ("upsert", "delete"):
                getattr(table, name)(given_rows)
            elif name == "restart":
                sink.close()
                sink = table.open_sink()
            elif name == "resync" and table.ask("SELECT 1 FROM pg_tables WHERE tablename = 'sinks'"):
                table.ask(f"UPDATE {SCHEMA}.sinks SET version = NULL, load_version = NULL")
                sink.close()
            elif name in ("look", "one"):
                if name == "look":
                    sink.close()
                sink._begun_anew_at = float("-inf")
                sink.advance()
            elif name != "resync":
                getattr(table, name)()
        sink.close()
        table.follow()
        table.demand_equal()


@pytest.mark.long
def test_a_sink_that_is_killed_again_and_again_loses_and_doubles_nothing(
    table: SunkTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each host is killed as soon as it has applied something, while the table goes on changing."""
    table.append([build_row(number) for number in range(20)])
    command = [sys.executable, "-m", "tests.integration.sink_process"]
    arguments = [table.lakehouse.root, table.url, str(tmp_path / "home")]
    seen = -1
    for turn in range(6):
        with subprocess.Popen([*command, *arguments], cwd=ROOT) as host:
            try:
                wait_for_later(table, seen)
                for step in range(4):
                    number = 100 * (turn + 1) + 3 * step
                    table.upsert([build_row(number), build_row(step, amount=float(turn))])
                    table.delete([number - 3])
                wait_for_later(table, find_version(table))
            finally:
                host.kill()
        seen = find_version(table)
        table.append([build_row(1000 + turn)])
    table.follow()
    table.demand_equal()


def wait_for_later(table: SunkTable, version: int) -> None:
    wait_for(lambda: find_version(table) > version, f"it has applied more than version {version}")


def find_version(table: SunkTable) -> int:
    """The version that is applied; -1 before there is one."""
    if not table.ask(f"SELECT 1 FROM pg_tables WHERE schemaname = '{SCHEMA}' AND tablename = 'sinks'"):
        return -1
    return max(
        [version for (version,) in table.ask(f"SELECT version FROM {SCHEMA}.sinks") if version is not None], default=-1
    )


def test_a_compaction_costs_nothing_and_an_upsert_sends_what_differs(table: SunkTable, sink: Sink) -> None:
    table.append([build_row(number, amount=0.5) for number in range(30)])
    table.append([build_row(number) for number in range(30, 60)])
    table.follow(sink)
    before = sink.rows_applied
    table.compact()
    table.vacuum()
    table.follow(sink)
    assert (sink.rows_applied, sink.version) == (before, table.open_table().version())
    table.upsert([build_row(3, amount=1.5), build_row(33)])
    table.delete([5, 6])
    table.follow(sink)
    assert sink.rows_applied == before + 1
    table.demand_equal()


def test_a_load_that_was_cut_short_goes_on_where_it_was(table: SunkTable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink_module, "_PORTION_BYTES", 1)
    for number in range(5):
        table.append([build_row(number)])
    cut = table.open_sink()
    assert [cut.advance() for _ in range(4)] == [True] * 4  # its beginning, and three portions
    cut.close()
    assert read_account(table) == {"version": None, "rows": 0, "load_version": 5, "load_portions": 3}
    table.append([build_row(9)])
    again = table.open_sink()
    table.follow(again)
    assert again.rows_applied == 2 + 1
    again.close()
    table.demand_equal()


def test_a_load_keeps_the_rows_readable_and_what_people_gave_the_table(table: SunkTable, sink: Sink) -> None:
    table.append([build_row(number) for number in range(3)])
    table.follow(sink)
    table.ask(f"CREATE VIEW public.mine AS SELECT number FROM {SCHEMA}.gold_sunk_rows")
    table.ask(f"UPDATE {SCHEMA}.sinks SET version = NULL")
    sink.close()
    sink.advance()
    assert len(table.ask("SELECT * FROM public.mine")) == 3
    table.follow(sink)
    assert len(table.ask("SELECT * FROM public.mine")) == 3
    table.demand_equal()


@pytest.mark.parametrize("loss", ["cut_log", "vacuum", "a file", "made anew", "put back"])
def test_what_the_log_no_longer_says_is_loaded_anew_in_one_line(
    loss: str, table: SunkTable, sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    table.append([build_row(number) for number in range(6)])
    table.follow(sink)
    if loss == "a file":
        table.append([build_row(30)])
        table.delete([30])
        table.append([build_row(31)])
        table.compact()
    if loss == "put back":
        sink.close()
        latest = max(table.log_folder.glob("*.json"))
        text = latest.read_text()
        latest.write_text(text.replace('"timestamp":', '"timestamp":1'))
    elif loss == "made anew":
        assert table.lakehouse.local_root is not None
        table.lakehouse.folder.remove("gold")
    for number in (10, 11, 12):
        table.upsert([build_row(number), build_row(1, amount=float(number))])
    if loss in ("cut_log", "vacuum", "a file"):
        getattr(table, loss.replace("a file", "vacuum"))()
    if loss != "made anew":  # which is seen at once
        sink.close()
    table.follow(sink)
    table.demand_equal()
    lines = [record.getMessage() for record in caplog.records if "loaded anew" in record.getMessage()]
    assert len(lines) == 1 and SPEC.name in lines[0]


def test_a_table_that_cannot_be_loaded_is_not_loaded_in_a_loop(table: SunkTable, sink: Sink) -> None:
    table.append([build_row(1)])
    for path in table.log_folder.parent.rglob("*.parquet"):
        path.unlink()
    with pytest.raises(LogGapError, match="was removed before it was read"):
        table.follow(sink)


def change_by_hand(table: SunkTable, how: str) -> None:
    name = f"{SCHEMA}.gold_sunk_rows"
    table.ask(
        {
            "rows deleted": f"DELETE FROM {name} WHERE number = 1",
            "a value edited": f"UPDATE {name} SET amount = 7 WHERE number = 1",
            "a row added": f"INSERT INTO {name} (number, event_date) VALUES (77, '2026-01-02')",
            "a column dropped": f"ALTER TABLE {name} DROP COLUMN amount",
            "a type changed": f"ALTER TABLE {name} ALTER COLUMN small TYPE bigint",
            "the key dropped": f"ALTER TABLE {name} DROP CONSTRAINT gold_sunk_rows_key",
            "the table dropped": f"DROP TABLE {name}",
        }[how]
    )


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("rows deleted", "2026-01-02 was changed by somebody else than its sink: it has 1 rows instead of 2."),
        ("a value edited", "2026-01-02 was changed by somebody else than its sink: it has other values in its 2 rows."),
        ("a row added", "2026-01-02 was changed by somebody else than its sink: it has 3 rows instead of 2."),
        ("a column dropped", "Column amount is missing."),
        ("a type changed", "Column small is bigint; its spec asks for integer."),
        ("the key dropped", "It has no unique index over its key (number, part)."),
        ("the table dropped", "The table was dropped."),
    ],
)
def test_what_somebody_has_changed_is_named_and_a_resync_repairs_it(
    how: str, said: str, table: SunkTable, sink: Sink
) -> None:
    table.append([build_row(number, amount=1.0) for number in (1, 4, 6)])
    table.follow(sink)
    change_by_hand(table, how)
    assert said in table.compare().breaches
    table.append([build_row(9)])
    sink.close()
    if how.startswith(("a column", "a type", "the key")):
        with pytest.raises(SinkTargetError, match=r"headrace sink resync gold\.sunk_rows"):
            sink.advance()
    elif how != "the table dropped":  # which is made anew without a word from anybody
        table.follow(sink)
        assert table.compare().breaches
    if how != "the table dropped":
        table.ask(f"UPDATE {SCHEMA}.sinks SET version = NULL")
    table.follow()
    table.demand_equal()


def test_a_table_of_others_is_never_touched(table: SunkTable, sink: Sink) -> None:
    table.append([build_row(1)])
    table.ask(f"CREATE SCHEMA {SCHEMA}; CREATE TABLE {SCHEMA}.gold_sunk_rows (mine text)")
    with pytest.raises(
        SinkTargetError, match=r"has a table gold_sunk_rows that the sink of gold\.sunk_rows has not made"
    ):
        table.follow(sink)
    assert table.ask(f"SELECT * FROM {SCHEMA}.gold_sunk_rows") == []
    table.ask(f"DROP TABLE {SCHEMA}.gold_sunk_rows; CREATE TABLE {SCHEMA}.gold_sunk_rows__loading (mine text)")
    with pytest.raises(SinkTargetError, match="gold_sunk_rows__loading"):
        table.follow(sink)
    table.ask(f"DROP SCHEMA {SCHEMA} CASCADE; CREATE SCHEMA {SCHEMA}; CREATE TABLE {SCHEMA}.sinks (mine text)")
    sink.close()
    with pytest.raises(SinkTargetError, match="has a table sinks that no sink has made"):
        table.follow(sink)


def test_a_row_in_the_way_is_refused_without_its_values(table: SunkTable, sink: Sink) -> None:
    table.append([build_row(1)])
    table.follow(sink)
    table.ask(f"INSERT INTO {SCHEMA}.gold_sunk_rows (number, part, event_date) VALUES (2, 'ann', '2026-01-01')")
    table.append([build_row(2, "ann")])
    with pytest.raises(SinkTargetError, match="UniqueViolation") as refused:
        table.follow(sink)
    assert "ann" not in str(refused.value)


def test_a_new_column_is_added_and_another_type_is_refused(table: SunkTable, sink: Sink) -> None:
    table.append([build_row(1)])
    table.follow(sink)
    sink.close()
    grown = table.with_columns(*SPEC.columns, Column("channel", "string", "New."))
    grown.open_table()
    grown.append([build_row(2) | {"channel": "web"}])
    grown.follow()
    grown.demand_equal()
    assert read_account(table)["load_version"] is None
    changed = grown.with_columns(*(replace(c, type="int") if c.name == "channel" else c for c in grown.spec.columns))
    with pytest.raises(SinkTargetError, match="Column channel is text; its spec asks for integer"):
        changed.follow()


def test_a_new_column_that_has_values_already_is_filled(table: SunkTable) -> None:
    grown = table.with_columns(*SPEC.columns, Column("channel", "string", "New."))
    grown.append([build_row(1) | {"channel": "web"}])
    table.follow()  # older code, which does not know the column
    grown.follow()
    grown.demand_equal()
    assert [row["channel"] for row in grown.read_postgres()] == ["web"]


def test_nothing_is_written_under_a_lost_lease(table: SunkTable) -> None:
    def refuse() -> None:
        raise GroupOwnedError("Another host has taken over.")

    table.append([build_row(1)])
    replaced = table.open_sink(check_lease=refuse)
    with pytest.raises(GroupOwnedError):
        replaced.advance()
    replaced.close()
    assert table.ask("SELECT 1 FROM pg_namespace WHERE nspname = 'headrace'") == []


def test_of_two_hosts_that_both_believe_to_own_the_group_each_version_is_applied_once(table: SunkTable) -> None:
    table.append([build_row(0)])
    first, second = table.open_sink(), table.open_sink()
    for number in range(1, 9):
        table.append([build_row(number)])
        for each in (first, second) if number % 2 else (second, first):
            each.advance()
    for each in (first, second):
        table.follow(each)
        each.close()
    table.demand_equal()


def test_a_key_that_no_index_takes_stops_its_sink_alone(table: SunkTable, sink: Sink) -> None:
    table.append([build_row(1)])
    table.follow(sink)
    table.append([build_row(2, secrets.token_hex(5000))])
    with pytest.raises(SinkTargetError, match="index row"):
        table.follow(sink)
    table.delete([2])
    table.follow(sink)
    table.demand_equal()


def test_sinks_that_begin_together_in_an_empty_database_do_not_meet(
    table: SunkTable, group_settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    tables = [replace(table, spec=replace(SPEC, name=f"gold.sunk_{number}")) for number in range(4)]
    for each in tables:
        each.append([build_row(1)])
    group = SinkGroup([each.target for each in tables], group_settings, table.lakehouse)
    group.start(bounded=True)
    wait_for(group.is_finished, "all are loaded")
    group.stop(10.0)
    for each in tables:
        each.demand_equal()
    assert "stands still" not in caplog.text


def test_a_database_that_is_away_is_said_once_and_disturbs_nobody(
    table: SunkTable, group_settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    table.append([build_row(1)])
    name = table.url.rpartition("/")[2]
    admin = replace(table, url=table.url.replace(name, "dagster"))
    group = SinkGroup([table.target], group_settings, table.lakehouse)
    group.start()
    try:
        wait_for(lambda: (p := group.progress()[NAME].sink) is not None and p.version == 1, "loaded")
        admin.ask(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        admin.ask(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        table.append([build_row(2)])
        wait_for(lambda: bool((p := group.progress()[NAME].sink) and p.trouble and p.behind_since), "it stands")
        group.reconcile()
        wait_for(lambda: group._workers[NAME]._sink._connection is None, "it has tried again")
        assert group.failure() is None
        admin.ask(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        wait_for(lambda: (p := group.progress()[NAME].sink) is not None and p.version == 2, "caught up")
        wait_for(lambda: not ((p := group.progress()[NAME].sink) and p.trouble), "said to go on")
    finally:
        group.stop(10.0)
    table.demand_equal()
    said = [record.getMessage() for record in caplog.records if record.name.endswith("sink_group")]
    assert [line.startswith("The sink of gold.sunk_rows stands still. Postgres at 127.0.0.1") for line in said] == [
        True,
        False,
    ]
    assert "goes on" in said[1]


@pytest.mark.long
def test_an_object_store_that_is_away_is_waited_for(
    table: SunkTable, group_settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with running_s3() as server:
        settings = build_settings(tmp_path, f"s3://{BUCKET}/sinks", server.options)
        there = replace(table, lakehouse=LakehouseResource.from_settings(settings))
        there.append([build_row(1), build_row(2)])
        group = SinkGroup([there.target], group_settings, there.lakehouse)
        group.start()
        try:
            wait_for(lambda: (p := group.progress()[NAME].sink) is not None and p.version == 1, "loaded")
            there.upsert([build_row(1, amount=2.0)])
            wait_for(lambda: (p := group.progress()[NAME].sink) is not None and p.version == 2, "followed")
            server.stop()
            wait_for(
                lambda: "does not answer" in (((p := group.progress()[NAME].sink) and p.trouble) or ""), "it stands"
            )
            server.start()
            wait_for(lambda: not ((p := group.progress()[NAME].sink) and p.trouble), "it goes on")
            there.append([build_row(3)])
            wait_for(lambda: (p := group.progress()[NAME].sink) is not None and p.version == 3, "followed")
            assert group.failure() is None
        finally:
            group.stop(10.0)
        there.demand_equal()
    assert "loaded anew" not in caplog.text


def test_a_sink_is_paused_and_started_again(table: SunkTable, group_settings: Settings) -> None:
    table.append([build_row(1)])
    group = SinkGroup([table.target], group_settings, table.lakehouse)
    group.start(paused=frozenset({NAME}))
    assert group.progress() == {}
    group.reconcile()
    wait_for(lambda: bool((found := group.progress().get(NAME)) and found.table_versions == {SPEC.name: 1}), "loaded")
    group.reconcile(frozenset({NAME}))
    wait_for(lambda: not group._workers[NAME].is_active, "it has ended")
    table.append([build_row(2)])
    assert read_account(table)["version"] == 1
    group.reconcile(restart_at={NAME: time.time() + 1})
    wait_for(lambda: read_account(table)["version"] == 2, "it goes on")
    group.stop(10.0)


def test_a_drain_brings_the_group_to_the_newest_version(table: SunkTable, group_settings: Settings) -> None:
    table.append([build_row(1)])
    group, lines = StreamGroup("postgres", (), sinks=(SPEC,)), list[str]()
    assert drain_streams(group, group_settings, lines.append) == EXIT_DONE
    table.demand_equal()
    closed = group_settings.model_copy(update={"postgres_url": type(group_settings.postgres_url)(_nobody(table.url))})
    assert drain_streams(group, closed, lines.append) == EXIT_FAILED
    assert "does not answer" in lines[-1] and "goes on by itself" in lines[-1]


def test_a_supervised_run_hosts_the_sinks_until_it_is_asked_to_stop(
    table: SunkTable, group_settings: Settings, monkeypatch: pytest.MonkeyPatch, fresh_settings: None
) -> None:
    monkeypatch.setenv("HEADRACE_HOME", str(group_settings.home))
    monkeypatch.setenv("HEADRACE_LAKEHOUSE", table.lakehouse.root)
    monkeypatch.setenv("HEADRACE_POSTGRES_URL", table.url)
    group = StreamGroup("postgres", (), sinks=(SPEC,))
    table.append([build_row(1)])
    with dg.instance_for_test() as instance:

        def read_progress() -> dict[str, Any]:
            found = read_report(instance, "postgres")
            return {} if found is None else found.queries.get(NAME, {}).get("sink", {})

        def stop_when_it_has_followed() -> None:
            wait_for_later(table, 0)
            table.append([build_row(2)])
            wait_for(lambda: read_progress().get("version") == 2, "it has reported the second version")
            request_shutdown(instance, "postgres", "the test is over")

        person = threading.Thread(target=stop_when_it_has_followed)
        person.start()
        result = build_streaming_job([group]).execute_in_process(instance=instance)
        person.join()
        assert read_progress() == {"version": 2, "rows": 2, "behind_since": None, "trouble": ""}
    assert result.success
    table.demand_equal()


def _nobody(url: str) -> str:
    """The same address with a port at which nobody listens."""
    before, _, database = url.rpartition("/")
    return f"{before.rpartition(':')[0]}:9/{database}"


def test_a_log_in_that_is_refused_is_named_without_its_password(table: SunkTable, sink: Sink) -> None:
    table.append([build_row(1)])
    table.ask("CREATE ROLE reader LOGIN")
    weak = replace(table, url=table.url.replace("dagster@", "reader:hunter2@"))
    with pytest.raises(DatabaseRefusedError, match="permission denied for database") as refused:
        weak.follow()
    assert "hunter2" not in str(refused.value)
    gone = replace(table, url=table.url.replace("dagster@", "nobody:hunter2@"))
    with pytest.raises(DatabaseRefusedError, match="refuses the log-in") as refused:
        gone.follow()
    assert "hunter2" not in str(refused.value)
    plain = replace(table, url=f"{table.url}?sslmode=verify-full&sslrootcert=system")
    with pytest.raises(DatabaseRefusedError, match=r"refuses the log-in: .*SSL"):
        plain.follow()
    with pytest.raises(DatabaseUnavailableError, match="does not answer"):
        replace(table, url=_nobody(table.url)).follow()


def test_an_account_with_rights_to_its_schema_alone_is_enough(table: SunkTable) -> None:
    table.ask(f"CREATE ROLE sink_{table.url[-6:]} LOGIN; CREATE SCHEMA {SCHEMA} AUTHORIZATION sink_{table.url[-6:]}")
    weak = replace(table, url=table.url.replace("dagster@", f"sink_{table.url[-6:]}@"))
    table.append([build_row(1)])
    weak.follow()
    weak.upsert([build_row(1, amount=2.0)])
    weak.follow()
    weak.demand_equal()


def test_a_forgotten_user_is_gone_before_the_files_are(
    table: SunkTable, group_settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    groups, said = [StreamGroup("postgres", (), sinks=(SPEC,))], list[str]()
    table.append([build_row(1, text="ann"), build_row(4, text="bob")])
    table.follow()
    table.delete([1])
    assert follow_erasure(groups, group_settings, table.lakehouse, lambda: None, said.append) == ()
    assert [row["text"] for row in table.read_postgres()] == ["bob"]
    table.vacuum()
    table.append([build_row(7)])
    table.follow()
    table.demand_equal()
    assert "loaded anew" not in caplog.text


def test_a_user_who_is_forgotten_while_the_database_is_away_goes_by_a_load(
    table: SunkTable, group_settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    groups = [StreamGroup("postgres", (), sinks=(SPEC,))]
    table.append([build_row(1, text="ann"), build_row(4, text="bob")])
    table.follow()
    table.delete([1])
    away = group_settings.model_copy(update={"postgres_url": type(group_settings.postgres_url)(_nobody(table.url))})
    [left] = follow_erasure(groups, away, table.lakehouse, lambda: None, lambda line: None)
    assert left.startswith("gold.sunk_rows in Postgres may still have the user")
    table.vacuum()
    table.follow()
    table.demand_equal()
    assert [row["text"] for row in table.read_postgres()] == ["bob"]
    assert "loaded anew" in caplog.text


def test_a_table_that_no_sink_follows_any_more_is_named(table: SunkTable, group_settings: Settings) -> None:
    table.append([build_row(1)])
    table.follow()
    assert find_left_behind([], group_settings) == (SPEC.name,)
    assert find_left_behind([table.target], group_settings) == ()


def test_the_commands_list_and_resync(
    table: SunkTable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    fresh_settings: None,
) -> None:  # fmt: skip
    values = {"HOME": str(tmp_path / "home"), "LAKEHOUSE": table.lakehouse.root, "POSTGRES_URL": table.url}
    for name, value in (values | {"POSTGRES_TABLES": "gold.sessions"}).items():
        monkeypatch.setenv(f"HEADRACE_{name}", value)
    load_settings.cache_clear()
    table.append([build_row(1)])
    table.follow()
    assert main(["sink", "list"]) == 0
    out = capsys.readouterr().out
    assert "gold.sessions: not loaded yet, 0 rows (the Delta table: no table)" in out
    assert "gold.sunk_rows: version 1, 1 rows, applied" in out and "no sink follows it, so drop it" in out
    assert main(["sink", "resync", "gold.sessions", "--because", "somebody edited it"]) == 1
    assert "has never run" in capsys.readouterr().err
    table.ask(f"INSERT INTO {SCHEMA}.sinks (name, version) VALUES ('gold.sessions', 3)")
    assert main(["sink", "resync", "gold.sessions", "--because", "somebody edited it"]) == 0
    assert table.ask(f"SELECT version FROM {SCHEMA}.sinks WHERE name = 'gold.sessions'") == [(None,)]


def test_times_that_postgres_does_not_read_are_refused_by_name(table: SunkTable) -> None:
    table.append(
        [
            build_row(1, at=datetime(9999, 12, 31, 23, 59, 59, 999_999, UTC)),
            build_row(2, at=datetime.min.replace(tzinfo=UTC)),
        ]
    )
    table.follow()
    table.demand_equal()
    assert table.read_delta()[0]["event_date"] == date(2026, 1, 2)
