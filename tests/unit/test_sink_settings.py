"""Settings say which tables are kept in step in a Postgres; a bad one is refused by its name, without its value."""

from __future__ import annotations

import dagster as dg
import pytest

from jobs.supervision.fingerprint import build_fingerprint
from jobs.watching.samples import list_samples
from platform_assets.definitions import defs
from platform_assets.errors import CatalogueError, SettingError
from platform_assets.sinks.catalogue import list_tables, load_groups
from platform_assets.sinks.target import Target
from platform_assets.streams import load_stream_groups
from platform_assets.tables.spec import Column, TableSpec
from resources.settings import Settings, load_settings

URL = "postgresql://headrace:hunter2@db.example/shop?sslmode=verify-full"


@pytest.fixture
def with_sinks(monkeypatch: pytest.MonkeyPatch, fresh_settings: None) -> None:
    monkeypatch.setenv("HEADRACE_POSTGRES_URL", URL)
    monkeypatch.setenv("HEADRACE_POSTGRES_TABLES", "gold.sessions, silver.events,gold.session_report")


def test_the_named_tables_are_a_group_behind_the_streams(with_sinks: None) -> None:
    groups = load_groups()
    assert [group.name for group in groups] == ["clickstream", "postgres"]
    assert groups[-1].query_names == ("sink_gold_sessions", "sink_silver_events", "sink_gold_session_report")
    assert "hunter2" not in repr(load_settings())


def test_without_an_address_there_is_no_such_group(fresh_settings: None) -> None:
    assert [group.sinks for group in load_groups()] == [()]


def test_each_table_that_a_group_writes_can_be_held(monkeypatch: pytest.MonkeyPatch, fresh_settings: None) -> None:
    monkeypatch.setenv("HEADRACE_GROUPS", "all")
    tables = list_tables(load_stream_groups())
    assert {"silver.events", "gold.sessions", "gold.customer_360", "gold.product_neighbours"} <= tables.keys()
    for table in tables.values():
        assert [column.name for column in Target(table, "headrace").columns] == [c.name for c in table.columns]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"POSTGRES_URL": "mysql://u:hunter2@host/db"}, "HEADRACE_POSTGRES_URL: .*must begin with postgresql://"),
        ({"POSTGRES_URL": "postgresql://u:hunter2@host"}, "HEADRACE_POSTGRES_URL: .*must name a database"),
        (
            {"POSTGRES_URL": "postgresql://u:hunter2@host/db?sslmod=x"},
            "HEADRACE_POSTGRES_URL: .*cannot be read by libpq",
        ),
        ({"POSTGRES_URL": "postgresql://u:hun%ter2@host/db"}, "HEADRACE_POSTGRES_URL: .*cannot be read by libpq"),
        ({"POSTGRES_TABLES": "gold.sessions"}, "HEADRACE_POSTGRES_TABLES: .*set HEADRACE_POSTGRES_URL"),
        ({"POSTGRES_URL": URL}, "HEADRACE_POSTGRES_TABLES names no table"),
        (
            {"POSTGRES_URL": URL, "POSTGRES_TABLES": "gold.x"},
            "no enabled group writes gold.x. There are: .*gold.sessions",
        ),
        ({"POSTGRES_URL": URL, "POSTGRES_SCHEMA": 'a"; DROP'}, "HEADRACE_POSTGRES_SCHEMA"),
    ],
)
def test_a_bad_setting_is_refused_by_its_name(
    values: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch, fresh_settings: None
) -> None:
    for name, value in values.items():
        monkeypatch.setenv(f"HEADRACE_{name}", value)
    with pytest.raises(SettingError, match=said) as refused:
        load_groups()
    assert "hunter2" not in str(refused.value) and "hun%ter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("a", "map<int,string>", "whose keys are no texts"),
        ("a", "tinyint", "no type here for tinyint"),
        ("a" * 64, "string", "too long for Postgres"),
    ],
)
def test_a_column_that_cannot_be_held_without_loss_is_refused(name: str, kind: str, said: str) -> None:
    table = TableSpec("gold.t", "A.", "a", ("k",), (Column("k", "string", "K.", False), Column(name, kind, "A.")))
    with pytest.raises(CatalogueError, match=said):
        Target(table, "headrace")


def test_each_sink_is_an_asset_with_its_checks(with_sinks: None) -> None:
    graph = defs().get_repository_def().asset_graph
    key = dg.AssetKey(["postgres", "gold_sessions"])
    assert graph.get(key).parent_keys == {dg.AssetKey(["gold", "sessions"])}
    assert {check.name for check in graph.asset_check_keys if check.asset_key == key} == {
        "sink_parity",
        "stream_running",
    }


def test_a_table_more_in_the_database_restarts_the_sinks_and_no_stream() -> None:
    table = TableSpec("gold.t", "A.", "a", ("k",), (Column("k", "string", "K.", False),))
    streams = load_stream_groups()[0]
    sinks = [type(streams)("postgres", (), sinks=tables) for tables in ((table,), (table, table))]
    before, after = Settings(), Settings.model_validate({"postgres_url": URL})
    assert build_fingerprint(streams, before) == build_fingerprint(streams, after)
    assert len({build_fingerprint(sinks[0], each) for each in (before, after)}) == 2
    assert build_fingerprint(sinks[0], after) != build_fingerprint(sinks[1], after)


def test_a_sink_is_watched() -> None:
    from jobs.supervision.lease import HostReport
    from jobs.supervision.model import Heartbeat
    from jobs.watching.platform_reading import GroupReading, PlatformReading
    from resources.processes import ProcessIdentity

    sink = {"version": 7, "rows": 40, "behind_since": "2026-01-01T00:00:00+00:00", "trouble": "away"}
    progress = {"rows_in": 50, "lag_records": None, "sink": sink}
    beat = Heartbeat("run", 0.0, ProcessIdentity("host", 1, "boot:1"), "running")
    report = HostReport(beat, {"sink_gold_sessions": progress})
    reading = PlatformReading({"postgres": GroupReading(None, report)}, None, [])
    now = 1767225600.0 + 9
    samples = list_samples(reading, {"postgres": ("sink_gold_sessions",)}, now)
    found = {sample.metric.name: sample.value for sample in samples if sample.metric.name.startswith("headrace_sink")}
    assert found == {
        "headrace_sink_version": 7,
        "headrace_sink_rows": 40,
        "headrace_sink_lag_seconds": 9.0,
        "headrace_sink_standing": True,
    }
