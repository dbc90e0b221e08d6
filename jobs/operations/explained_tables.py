"""What `headrace explain` reads: rows of the tables as they are.

A platform may be younger than the question, or older than the code: a table that nobody has made yet has no rows, and a
column that it does not have yet is null.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from platform_assets.checks.ledger_entries import Entry, read_all_entries, read_entries_with
from platform_assets.delta_reader import register_pinned
from platform_assets.streaming.delta.delta_tables import build_arrow_schema
from platform_assets.tables.coordinates import Coordinates
from platform_assets.tables.spec import TableSpec

if TYPE_CHECKING:
    from deltalake import DeltaTable

_EVENT_COUNTS = """
    SELECT count(*) FILTER ("{user}" = $user), count(*) FILTER ("{user}" = $user AND is_anonymous),
           count(*), count(*) FILTER (is_anonymous)
    FROM events
"""


class Lakehouse(Protocol):
    """What is asked of the lakehouse (`resources.lakehouse.LakehouseResource`)."""

    def find_table(self, name: str) -> DeltaTable | None:
        """A table; None where there is none."""
        ...


@dataclass(frozen=True)
class EventCounts:
    """Numbers of events: a user's own, and all; of each, those whose user is anonymous."""

    own: int
    own_anonymous: int
    events: int
    anonymous: int


class ExplainedTables:
    """One state of the tables, as a question needs it."""

    def __init__(self, lakehouse: Lakehouse) -> None:
        self.lakehouse = lakehouse

    def has(self, name: str) -> bool:
        """Whether there is such a table."""
        return self.lakehouse.find_table(name) is not None

    def read(self, name: str) -> list[dict[str, Any]]:
        """All rows of a small table."""
        table = self.lakehouse.find_table(name)
        return [] if table is None else table.to_pyarrow_table().to_pylist()

    @cached_property
    def states(self) -> dict[str, dict[str, Any]]:
        """The row of each query in `platform.complete_until`."""
        return {row["query"]: row for row in self.read("platform.complete_until")}

    def complete_until(self, query: str) -> datetime | None:
        """The time until which the rows of the query's table are final; None where none is."""
        return self.states.get(query, {}).get("complete_until")

    def read_entries(self, query: str, accepted: str) -> list[Entry]:
        """The accounts of all batches of the stream over Kafka, by its main table, rolled up; none before its first."""
        events = self.lakehouse.find_table(accepted)
        ledger = self.lakehouse.find_table("platform.ledger")
        losses = self.read("platform.lost_ranges")
        return [] if events is None else read_all_entries(query, events, ledger, losses)

    def read_batch(self, query: str, accepted: str, record: Coordinates) -> Entry | None:
        """The account of the batch that read this record, or of its day's batches; None where none has read it."""
        events = self.lakehouse.find_table(accepted)
        ledger = self.lakehouse.find_table("platform.ledger")
        if events is None:
            return None
        found = read_entries_with(query, events, ledger, {record.kafka_partition: [record.kafka_offset]})
        return next((entry for entry in found if entry.topic == record.topic), None)

    def find_record(self, table: str, record: Coordinates, columns: list[str]) -> Iterator[dict[str, Any]]:
        """These columns of the rows of one record."""
        import pyarrow.compute as pc

        if (found := self.lakehouse.find_table(table)) is None:
            return
        offset, partition = pc.field("kafka_offset"), pc.field("kafka_partition")
        where = (offset == record.kafka_offset) & (partition == record.kafka_partition)
        dataset = found.to_pyarrow_dataset()
        known = [name for name in columns if name in dataset.schema.names]
        for row in dataset.to_table(columns=["topic", *known], filter=where).to_pylist():
            if row["topic"] == record.topic:
                yield dict.fromkeys(columns) | row

    def find_rows(self, table: str, column: str, value: str, columns: list[str]) -> Iterator[dict[str, Any]]:
        """Rows by a text, in portions: Arrow has no filters for the text of files that delta-rs has compacted."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if (found := self.lakehouse.find_table(table)) is None:
            return
        dataset = found.to_pyarrow_dataset()
        known = [name for name in dict.fromkeys([column, *columns]) if name in dataset.schema.names]
        for batch in dataset.to_batches(columns=known):
            if len(batch):
                rows = batch.filter(pc.equal(batch[column].cast(pa.string()), value)).to_pylist()
                yield from (dict.fromkeys(columns) | row for row in rows)

    def count_events(self, spec: TableSpec, user_id: str) -> EventCounts:
        """The events of this user and of all in a table that has users. Reads the whole table, two columns of it."""
        import duckdb

        table = self.lakehouse.find_table(spec.name)
        if table is None:
            return EventCounts(0, 0, 0, 0)
        with duckdb.connect() as connection:
            register_pinned(connection, "events", table, columns=build_arrow_schema(spec))
            query = _EVENT_COUNTS.format(user=spec.roles.user_id)
            (counts,) = connection.sql(query, params={"user": user_id}).fetchall()
        return EventCounts(*counts)


def show_clock(moment: datetime) -> str:
    """A moment (UTC) as people read it, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
