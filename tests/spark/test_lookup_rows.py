"""Rows that a query looks up: each batch has those of the last replacement before it, once each."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from platform_assets.streaming.engine.lookup_rows import LookupRows

if TYPE_CHECKING:
    from pyspark.sql import SparkSession
    from pyspark.sql.streaming import StreamingQuery

NAMES = [f"name {number}" for number in range(50)]
SCHEMA = pa.schema([pa.field("name", pa.string(), nullable=False), pa.field("value", pa.int64())])


def build_rows(value: int, names: list[str] = NAMES) -> pa.Table:
    return pa.table({"name": names, "value": [value] * len(names)}, SCHEMA)


class Joined:
    """A query over files of names, joined with the rows; `ask` gives the values of a batch of all names."""

    def __init__(self, session: SparkSession, rows: LookupRows, folder: Path) -> None:
        self._session, self._folder = session, folder
        (folder / "names").mkdir()
        self._found: list[tuple[str, int | None]] = []
        names = session.readStream.text(str(folder / "names")).withColumnRenamed("value", "name")
        writer = names.join(rows.read(session), "name", "left").writeStream.option(
            "checkpointLocation", str(folder / "checkpoint")
        )
        self.query: StreamingQuery = writer.foreachBatch(
            lambda batch, _number: self._found.extend((row["name"], row["value"]) for row in batch.collect())
        ).start()

    def ask(self, number: int) -> set[int | None]:
        self._found.clear()
        draft = self._folder / f"_{number}"
        draft.write_text("\n".join(NAMES))
        draft.rename(self._folder / "names" / f"{number}.txt")
        self.query.processAllAvailable()
        assert sorted(name for name, _value in self._found) == sorted(NAMES), "each name once"
        return {value for _name, value in self._found}


@pytest.fixture
def lookup(tmp_path: Path) -> LookupRows:
    return LookupRows(tmp_path / "a folder", build_rows(0))


@pytest.fixture
def joined(spark: SparkSession, lookup: LookupRows, tmp_path: Path) -> Iterator[Joined]:
    joined = Joined(spark, lookup, tmp_path)
    yield joined
    joined.query.stop()


def test_a_batch_has_the_newest_rows(joined: Joined, lookup: LookupRows, tmp_path: Path) -> None:
    assert joined.ask(0) == {0}
    assert joined.ask(1) == {0}
    for number in range(2, 20):
        lookup.replace(build_rows(number))
        if number % 3 == 0:
            assert joined.ask(number) == {number}
    lookup.replace(SCHEMA.empty_table())
    assert joined.ask(20) == {None}
    assert len(list((tmp_path / "a folder").iterdir())) < 15, "files that no batch reads any more are removed"


def test_no_batch_has_a_row_twice_or_misses_one_while_rows_are_replaced(joined: Joined, lookup: LookupRows) -> None:
    is_over = threading.Event()
    replaced: list[int] = []

    def replace() -> None:
        while not is_over.wait(0.2):
            replaced.append(len(replaced) + 1)
            lookup.replace(build_rows(replaced[-1]))

    thread = threading.Thread(target=replace)
    thread.start()
    try:
        asked = [joined.ask(number) for number in range(12)]
    finally:
        is_over.set()
        thread.join()
    assert all(len(values) == 1 for values in asked), "a batch has the rows of one replacement"
    assert sorted(asked, key=lambda values: sorted(map(int, values))) == asked  # type: ignore[arg-type]
    assert len(replaced) > 3


def test_a_query_that_starts_again_has_the_newest_rows(spark: SparkSession, lookup: LookupRows, tmp_path: Path) -> None:
    lookup.replace(build_rows(1))
    assert {row["value"] for row in lookup.read(spark).collect()} == {1}
    lookup.replace(build_rows(2))
    again = lookup.read(spark)
    assert {row["value"] for row in again.collect()} == {2}
    lookup.replace(build_rows(3, NAMES[:1]))
    assert [row.asDict() for row in again.select("*").collect()] == [{"name": "name 0", "value": 3}]


def test_rows_that_cannot_be_written_leave_those_of_before(
    spark: SparkSession, lookup: LookupRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = lookup.read(spark)

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("pyarrow.parquet.write_table", refuse)
        with pytest.raises(OSError, match="No space left"):
            lookup.replace(build_rows(1))
    assert {row["value"] for row in rows.collect()} == {0}
    lookup.replace(build_rows(2))
    assert {row["value"] for row in rows.select("*").collect()} == {2}
