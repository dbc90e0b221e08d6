"""Tables that were made by other code: they grow where that is safe, and are left alone with a reason where not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import SchemaMismatchError

from platform_assets.checks.schema_contract import find_contract_breaches
from platform_assets.errors import TableSchemaError
from platform_assets.streaming.context import StreamContext
from platform_assets.streaming.delta.batch_writer import DeltaBatchWriter
from platform_assets.streaming.delta.commit_info import CommitInfo, CommitKind
from platform_assets.streaming.delta.delta_tables import create_table
from platform_assets.tables.spec import Column, TableSpec

OLD = TableSpec(
    name="gold.orders",
    description="A table",
    grain="one order",
    key=("id",),
    columns=(Column("id", "bigint", "Key", nullable=False), Column("day", "date", "Day")),
    partition_columns=("day",),
)
COUPON = Column("coupon", "string", "New: which coupon")
NEW = replace(OLD, columns=(*OLD.columns, COUPON))


def write_batch(root: Path, spec: TableSpec, batch: int, **values: object) -> None:
    context = StreamContext(str(root), {}, "earliest", 1, 1.0, 1, None)
    table = DeltaBatchWriter(spec, context)
    table.append(pa.Table.from_pylist([values]), CommitInfo.of_batch("q", "app", batch, source=batch))


def read(root: Path) -> list[dict[str, object]]:
    return DeltaTable(f"{root}/gold/orders").to_pyarrow_table().sort_by("id").to_pylist()


@pytest.mark.parametrize("upserts", [False, True])
def test_a_new_column_is_added_and_older_rows_have_none(tmp_path: Path, upserts: bool) -> None:
    write_batch(tmp_path, OLD, 0, id=1, day=None)
    if upserts:
        context = StreamContext(str(tmp_path), {}, "earliest", 1, 1.0, 1, None)
        rows = pa.Table.from_pylist([{"id": 2, "day": None, "coupon": "x"}])
        DeltaBatchWriter(NEW, context).put(rows, "true", CommitInfo(CommitKind.REPAIR, "q"))
    else:
        write_batch(tmp_path, NEW, 1, id=2, day=None, coupon="x")
    assert read(tmp_path) == [{"id": 1, "day": None, "coupon": None}, {"id": 2, "day": None, "coupon": "x"}]
    assert find_contract_breaches(DeltaTable(f"{tmp_path}/gold/orders"), NEW) == []


def test_older_code_goes_on_with_a_newer_table_and_leaves_the_column_null(tmp_path: Path) -> None:
    write_batch(tmp_path, NEW, 0, id=1, day=None, coupon="x")
    write_batch(tmp_path, OLD, 1, id=2, day=None)
    assert [row["coupon"] for row in read(tmp_path)] == ["x", None]


def test_a_column_may_become_nullable_and_older_rows_stay(tmp_path: Path) -> None:
    write_batch(tmp_path, OLD, 0, id=1, day=None)
    relaxed = replace(NEW, columns=(Column("id", "bigint", "Key"), *NEW.columns[1:]))
    write_batch(tmp_path, relaxed, 1, id=None, day=None, coupon="x")
    assert read(tmp_path) == [{"id": 1, "day": None, "coupon": None}, {"id": None, "day": None, "coupon": "x"}]
    assert find_contract_breaches(DeltaTable(f"{tmp_path}/gold/orders"), relaxed) == []


def test_a_table_that_fits_gets_no_commit(tmp_path: Path) -> None:
    uri = str(tmp_path / "t")
    create_table(uri, NEW)
    create_table(uri, NEW)
    assert DeltaTable(uri).version() == 0


@pytest.mark.parametrize(
    ("spec", "difference"),
    [
        (replace(OLD, columns=(OLD.columns[0], COUPON, OLD.columns[1])), "Column coupon is missing."),
        (replace(OLD, columns=(Column("id", "string", "Key", nullable=False), OLD.columns[1])), "Column id is bigint"),
        (
            replace(OLD, columns=(OLD.columns[0], Column("day", "date", "Day", nullable=False))),
            "Column day is nullable",
        ),
        (
            replace(OLD, columns=(Column("number", "bigint", "Key", nullable=False), OLD.columns[1])),
            "number is missing",
        ),
        (replace(NEW, columns=(*OLD.columns, replace(COUPON, nullable=False))), "New column coupon is NOT NULL"),
        (replace(OLD, partition_columns=()), "Partition columns are ['day']; promised are ()."),
        (replace(OLD, columns=OLD.columns[1:]), "Column id is not in the spec."),
    ],
)
def test_what_is_not_an_addition_is_refused_with_the_difference_and_nothing_changes(
    tmp_path: Path, spec: TableSpec, difference: str
) -> None:
    write_batch(tmp_path, OLD, 0, id=1, day=None)
    with pytest.raises(TableSchemaError, match="Run the code that the table was made with") as refused:
        create_table(f"{tmp_path}/gold/orders", spec)
    assert difference in str(refused.value)
    assert read(tmp_path) == [{"id": 1, "day": None}]


def test_a_writer_that_has_the_older_table_open_fails_and_its_batch_is_written_at_the_next_start(
    tmp_path: Path,
) -> None:
    context = StreamContext(str(tmp_path), {}, "earliest", 1, 1.0, 1, None)
    older, batch = DeltaBatchWriter(OLD, context), CommitInfo.of_batch("q", "app", 0, source=0)
    create_table(older.uri, NEW)
    rows = pa.table({"id": [7], "day": pa.nulls(1, pa.date32())})
    with pytest.raises(SchemaMismatchError):
        older.append(rows, batch)
    DeltaBatchWriter(OLD, context).append(rows, batch)
    DeltaBatchWriter(NEW, context).append(rows.append_column("coupon", pa.array(["x"])), batch)
    assert read(tmp_path) == [{"id": 7, "day": None, "coupon": None}]
