"""What the live page keeps of a table is what the table holds, whatever its commits have done meanwhile."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from jobs.page import followed_table
from jobs.page.followed_table import FollowedTable
from jobs.page.kept_rows import Kept, KeptRows
from platform_assets.errors import TableSchemaError
from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table
from platform_assets.tables.spec import Column, TableSpec
from resources.lakehouse import LakehouseResource

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
SPEC = TableSpec(
    name="silver.sales",
    description="Sales.",
    grain="sale",
    key=("sale",),
    columns=(
        Column("sale", "bigint", "Number"),
        Column("event_time", "timestamp", "When"),
        Column("product", "string", "What"),
        Column("amount", "double", "For how much"),
        Column("event_date", "date", "Day"),
    ),
    partition_columns=("event_date",),
    statistics_columns=("event_time",),
)
SUMS = """
    SELECT date_trunc('minute', event_time) AS moment, product, count(*) AS sales,
           sum(CAST(amount AS DECIMAL(18, 2))) AS amount
    FROM file_rows {} GROUP BY ALL"""
ALL = Kept("every_sale", SPEC, SUMS.format(""), "event_time")
NEW = Kept(
    "new_sales",
    SPEC,
    SUMS.format("WHERE event_time >= $since"),
    "event_time",
    lambda newest: newest - timedelta(days=1),
)

Row = tuple[int, int, str, int]  # number, minutes before NOW, product, cents


class Shop:
    """A table, two readers of it, and their connection."""

    def __init__(self, folder: Path, connection: duckdb.DuckDBPyConnection) -> None:
        self.lakehouse = LakehouseResource(root=str(folder / "a lake"))
        self.uri = self.lakehouse.table_uri(SPEC.name)
        self.connection = connection
        self.followed = FollowedTable(self.uri, {}, "event_time")
        self.kept = [KeptRows(connection, self.lakehouse, kept, self.followed) for kept in (ALL, NEW)]

    def append(self, rows: Sequence[Row]) -> None:
        write_deltalake(create_table(self.uri, SPEC), self._build(rows), mode="append")

    def upsert(self, rows: Sequence[Row]) -> None:
        """Replaces rows by their number, as streams with an open window do."""
        merge = create_table(self.uri, SPEC).merge(
            self._build(rows), "t.sale = s.sale", source_alias="s", target_alias="t"
        )
        merge.when_matched_update_all().when_not_matched_insert_all().execute()

    def compact(self) -> None:
        create_table(self.uri, SPEC).optimize.compact()

    def erase(self, product: str) -> None:
        create_table(self.uri, SPEC).delete(f"product = '{product}'")

    def vacuum(self) -> None:
        create_table(self.uri, SPEC).vacuum(0, dry_run=False, enforce_retention_duration=False)

    def create_anew(self) -> None:
        shutil.rmtree(self.uri, ignore_errors=True)
        create_table(self.uri, SPEC)

    def list_files(self) -> list[Path]:
        """The files of rows, also those that no version names any more."""
        return list(Path(self.uri).glob("event_date=*/*.parquet"))

    def look(self) -> None:
        self.followed.look()
        for kept in self.kept:
            kept.follow(NOW)

    def _build(self, rows: Sequence[Row]) -> pa.Table:
        found = [
            {
                "sale": number, "event_time": (time := NOW - timedelta(minutes=minutes)), "product": product,
                "amount": cents / 100, "event_date": time.date(),
            }
            for number, minutes, product, cents in rows
        ]  # fmt: skip
        return pa.Table.from_pylist(found, build_arrow_schema(SPEC))

    def read_kept(self, name: str, since: datetime) -> Counter[tuple[datetime, str, int]]:
        """Cents and sales by minute and product, as `Counter`s of (minute, product, which)."""
        sums: Counter[tuple[datetime, str, int]] = Counter()
        rows = self.connection.sql(f"SELECT moment, product, sales, amount FROM {name}").to_arrow_table().to_pylist()
        for row in rows:
            if row["moment"] >= since:
                sums[row["moment"], row["product"], 0] += row["sales"]
                sums[row["moment"], row["product"], 1] += int(row["amount"] * 100)
        return +sums

    def read_table(self, since: datetime) -> Counter[tuple[datetime, str, int]]:
        """The same by all rows of the table, one by one in Python."""
        sums: Counter[tuple[datetime, str, int]] = Counter()
        for row in DeltaTable(self.uri).to_pyarrow_table().to_pylist():
            minute = row["event_time"].replace(second=0, microsecond=0)
            if minute >= since:
                sums[minute, row["product"], 0] += 1
                sums[minute, row["product"], 1] += int(Decimal(f"{row['amount']:.2f}") * 100)
        return +sums


@contextmanager
def opened_shop() -> Iterator[Shop]:
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield Shop(Path(folder), connection)


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    monkeypatch.setattr(followed_table, "_PROVE_SECONDS", 0.0)
    with opened_shop() as found:
        yield found


rows = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 4000), st.sampled_from("abc"), st.integers(0, 10_000_00)),
    min_size=1, max_size=6, unique_by=lambda row: row[0],
)  # fmt: skip
steps = st.one_of(
    st.tuples(st.sampled_from(["append", "upsert"]), rows), st.tuples(st.just("erase"), st.sampled_from("abc")),
    st.tuples(st.sampled_from(["compact", "vacuum", "create_anew", "look", "look"])),
)  # fmt: skip


@settings(max_examples=10, phases=[Phase.reuse, Phase.generate])
@given(st.lists(steps, min_size=3, max_size=12))
def test_what_is_kept_is_what_the_table_holds(history: list[tuple[str, ...]]) -> None:
    before, followed_table._PROVE_SECONDS = followed_table._PROVE_SECONDS, 0.0
    try:
        with opened_shop() as shop:
            shop.create_anew()
            for name, *arguments in history:
                getattr(shop, name)(*arguments)
            shop.look()
            _, new = shop.kept
            assert shop.read_kept("every_sale", datetime.min.replace(tzinfo=UTC)) == shop.read_table(
                datetime.min.replace(tzinfo=UTC)
            )
            since = (new.newest or NOW) - timedelta(days=1) + timedelta(minutes=1)
            assert shop.read_kept("new_sales", since) == shop.read_table(since)
    finally:
        followed_table._PROVE_SECONDS = before


def test_a_commit_costs_its_own_files(shop: Shop) -> None:
    for number in range(4):
        shop.append([(number, number, "a", 100)])
    shop.look()
    # What was read is gone: a second look that asked for it would fail.
    for file in shop.list_files():
        file.unlink()
    shop.append([(200, 5, "b", 700)])
    shop.look()
    assert shop.connection.sql("SELECT sum(sales) FROM every_sale").fetchall() == [(5,)]


def test_files_of_rows_that_no_longer_matter_are_not_read(shop: Shop) -> None:
    shop.append([(1, 4000, "a", 100)])
    for file in shop.list_files():
        file.unlink()
    shop.append([(2, 0, "b", 100)])
    shop.followed.look()
    new = shop.kept[1]
    assert new.follow(NOW)
    assert shop.connection.sql("SELECT product, sales FROM new_sales").fetchall() == [("b", 1)]


def test_a_moment_in_the_future_does_not_push_the_present_out(shop: Shop) -> None:
    shop.append([(1, 5, "a", 100), (2, -20_000, "a", 100)])
    shop.look()
    assert shop.kept[1].newest == NOW
    assert shop.read_kept("new_sales", NOW - timedelta(days=1)).total() > 0


def test_what_cannot_be_read_leaves_the_rows_as_they_were(shop: Shop) -> None:
    shop.append([(1, 5, "a", 100)])
    shop.look()
    shop.append([(2, 5, "a", 100)])
    newest = max(shop.list_files(), key=lambda file: file.stat().st_mtime_ns)
    hidden = newest.rename(newest.with_suffix(".hidden"))
    with pytest.raises(duckdb.Error):
        shop.look()
    assert shop.connection.sql("SELECT sum(sales) FROM every_sale").fetchall() == [(1,)]
    hidden.rename(newest)
    shop.look()
    assert shop.connection.sql("SELECT sum(sales) FROM every_sale").fetchall() == [(2,)]


def test_a_table_that_arrow_cannot_read_is_refused(shop: Shop) -> None:
    shop.append([(1, 5, "a", 100)])
    shop.look()
    features = ["deletionVectors"]
    newer = {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": features, "writerFeatures": features}
    commit = Path(shop.uri, "_delta_log", f"{DeltaTable(shop.uri).version() + 1:020d}.json")
    commit.write_text(json.dumps({"protocol": newer}))
    with pytest.raises(TableSchemaError):
        shop.look()


def test_a_table_that_is_not_there_is_no_trouble(shop: Shop) -> None:
    shop.look()
    assert shop.followed.version is None and not shop.followed.was_there and not shop.kept[0].has_rows
    shop.append([(1, 5, "a", 100)])
    shop.followed._looked_at -= 60
    shop.look()
    assert shop.kept[0].has_rows
