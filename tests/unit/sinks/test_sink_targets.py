"""Sinks and the people of a database: what these change is found, what is theirs is left alone, refusals are named."""

from __future__ import annotations

import secrets
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.cli.__main__ import main
from platform_assets.errors import DatabaseRefusedError, DatabaseUnavailableError, SinkTargetError
from platform_assets.sinks.sink import Sink
from platform_assets.sinks.sink_group import find_left_behind
from resources.settings import Settings, load_settings
from tests.unit.sinks.sunk_table import SCHEMA, SPEC, SunkTable, build_row, nobody_at


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


def test_a_key_that_no_index_takes_stops_its_sink_alone(table: SunkTable, sink: Sink) -> None:
    table.append([build_row(1)])
    table.follow(sink)
    table.append([build_row(2, secrets.token_hex(5000))])
    with pytest.raises(SinkTargetError, match="index row"):
        table.follow(sink)
    table.delete([2])
    table.follow(sink)
    table.demand_equal()


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
        replace(table, url=nobody_at(table.url)).follow()


def test_an_account_with_rights_to_its_schema_alone_is_enough(table: SunkTable) -> None:
    table.ask(f"CREATE ROLE sink_{table.url[-6:]} LOGIN; CREATE SCHEMA {SCHEMA} AUTHORIZATION sink_{table.url[-6:]}")
    weak = replace(table, url=table.url.replace("dagster@", f"sink_{table.url[-6:]}@"))
    table.append([build_row(1)])
    weak.follow()
    weak.upsert([build_row(1, amount=2.0)])
    weak.follow()
    weak.demand_equal()


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
