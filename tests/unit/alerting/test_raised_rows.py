"""What rows say about the keys of an alert, against plain Python over the same rows; and expressions that are none."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import chain

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from platform_assets.alerting.raised_rows import Raised, demand_valid, find_raised
from platform_assets.alerts import load_alerts
from platform_assets.errors import CatalogueError
from platform_assets.sinks.table_log import LogGapError
from platform_assets.streaming.delta.delta_tables import build_arrow_schema
from resources.duckdb import KeptConnection
from tests.unit.alerting.raised_table import HOT, NOON, TABLE, RaisedTable, Row, build_row

_rows = st.lists(
    st.builds(
        build_row,
        st.sampled_from(["a", "b", ""]) | st.none(),
        st.sampled_from([20.0, 27.0, 30.0, 31.5, float("nan")]) | st.none(),
        st.integers(0, 5) | st.none(),
        st.sampled_from(["x", "y"]) | st.none(),
    ),
    max_size=12,
)


def find(raised: RaisedTable, rows: list[Row], since: datetime | None = None) -> list[Raised]:
    batches = pa.Table.from_pylist(rows, build_arrow_schema(TABLE)).to_batches(max_chunksize=3)
    return list(chain.from_iterable(find_raised(raised.engine, HOT, iter(batches), since)))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_rows, st.none() | st.integers(0, 5))
def test_rows_say_what_plain_python_says(raised: RaisedTable, rows: list[Row], minute: int | None) -> None:
    since = None if minute is None else NOON + timedelta(minutes=minute)
    assert find(raised, rows, since) == _by_hand(rows, since)


def _by_hand(rows: list[Row], since: datetime | None) -> list[Raised]:
    found = []
    kept = [row for row in rows if since is None or (row["at"] is not None and row["at"] >= since)]
    for key in sorted({row["sensor"] or "" for row in kept}):
        ours = [row for row in kept if (row["sensor"] or "") == key and row["degrees"] is not None]
        # DuckDB has NaN as the largest number, as Spark does.
        hot = [row for row in ours if not row["degrees"] < 30]
        cold = [row for row in ours if row["degrees"] < 25]
        if not hot and not cold:
            continue

        def place(row: Row) -> tuple[datetime, str]:
            return row["at"] or datetime(1970, 1, 1, tzinfo=UTC), _text(row)

        first = min(hot, key=place) if hot else None
        last_hot = max((place(row)[0] for row in hot), default=None)
        last_cold = max((place(row)[0] for row in cold), default=None)
        is_over = last_hot is None or (last_cold is not None and last_cold > last_hot)
        users = [
            row["person"]
            for row in sorted(hot, key=lambda row: (*place(row), row["person"] or ""))
            if row["person"] is not None
        ]
        times = [row["at"] for row in hot if row["at"] is not None]
        text = _text(first) if first is not None else ""
        last = max((row["at"] for row in [*hot, *cold] if row["at"] is not None), default=None)
        found.append(Raised(key, len(hot), text, users[0] if users else None, min(times, default=None), is_over, last))
    return found


def _text(row: Row) -> str:
    return f"{row['sensor'] or ''} has {row['degrees']} degrees"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"condition": "warmth > 3"}, 'The alert too_hot: an expression of its file cannot be .* "warmth"'),
        ({"key": "sensor ||"}, "cannot be computed over gold.temperatures"),
        ({"over": "'maybe'"}, "cannot be computed over gold.temperatures"),
    ],
)
def test_an_expression_that_is_none_is_named(raised: RaisedTable, change: dict[str, str], says: str) -> None:
    with pytest.raises(CatalogueError, match=says):
        demand_valid(raised.engine, replace(HOT, **change))  # type: ignore[arg-type]


def test_the_expressions_of_the_alerts_that_ship_can_be_computed(raised: RaisedTable) -> None:
    for alert in load_alerts():
        demand_valid(raised.engine, alert)


def test_an_error_of_the_reader_is_the_error(raised: RaisedTable) -> None:
    def read(name: str) -> pa.RecordBatch:
        raise LogGapError(f"{name} is gone")

    with pytest.raises(LogGapError, match="a file is gone"):
        list(find_raised(raised.engine, HOT, map(read, ["a file"])))


def test_long_keys_and_texts_are_cut(raised: RaisedTable) -> None:
    [found] = find(raised, [build_row("k" * 2_000_000, 40.0)])
    assert len(found.key) == len(found.text) == 500


def test_a_connection_is_used_again_and_is_another_one_after_an_error(raised: RaisedTable) -> None:
    kept = KeptConnection(raised.engine)
    scratch = raised.settings.home / "reports"
    demand_valid(kept, HOT)
    with kept.connected() as first:
        assert len(list(scratch.iterdir())) == 1
    with pytest.raises(CatalogueError, match="cannot be computed"):
        demand_valid(kept, replace(HOT, condition="nothing > 1"))
    assert list(scratch.iterdir()) == []
    demand_valid(kept, HOT)
    with kept.connected() as second:
        assert second is not first
    kept.close()
    kept.close()
    assert list(scratch.iterdir()) == []
