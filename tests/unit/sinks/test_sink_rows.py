"""A table in a real Postgres is the Delta table at a version, whatever happens to that one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.errors import SinkTargetError
from platform_assets.sinks.sink import Sink
from platform_assets.sinks.table_log import LogGapError
from platform_assets.tables.spec import Column
from resources.duckdb import DuckDBResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.generated_cases import examples
from tests.unit.sinks.sunk_table import (
    FULL_ROW,
    SCHEMA,
    SPEC,
    SunkTable,
    build_row,
    fresh_database,
    read_account,
)


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


def test_the_first_and_the_last_time_arrive_and_others_are_refused_by_their_column(
    table: SunkTable, sink: Sink
) -> None:
    last = datetime(9999, 12, 31, 23, 59, 59, 999_999, UTC)
    table.append([build_row(1, at=last), build_row(2, at=datetime.min.replace(tzinfo=UTC))])
    table.follow(sink)
    table.demand_equal()
    rows = table.as_arrow([build_row(3)])
    beyond = pa.array([253_402_300_800_000_000]).cast(pa.timestamp("us", "UTC"))
    rows = rows.set_column(rows.schema.get_field_index("at"), "at", beyond)
    write_deltalake(table.open_table(), rows, mode="append")
    with pytest.raises(SinkTargetError, match="The column at has a time before the year 1 or after 9999"):
        table.follow(sink)


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
    monkeypatch.setattr("platform_assets.sinks.table_version._PORTION_BYTES", 1)
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
