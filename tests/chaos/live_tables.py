"""The rows of a lakehouse that is being written, and what somebody does to them by mistake."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError

from platform_assets.streaming.derive.query_state import read_complete_until

_PLACE = "kafka_partition, kafka_offset"
_OUTPUT_TABLES = (
    "silver.events", "silver.quarantined_events", "silver.deduplicated_events", "platform.erased_records",
)  # fmt: skip
_REQUEUED = "platform.requeued_records"


class LiveTables:
    """Each call reads the tables' newest versions; they must exist."""

    def __init__(self, lakehouse: str) -> None:
        self._lakehouse = Path(lakehouse)

    def open(self, name: str) -> DeltaTable:
        """The table of this public name."""
        return DeltaTable(str(self._lakehouse.joinpath(*name.split("."))))

    def _column(self, name: str, column: str) -> Any:
        return self.open(name).to_pyarrow_table(columns=[column])[column]

    def read_complete_until(self, query: str) -> datetime | None:
        """Up to which event time the query's table is final; None while nothing is."""
        row = read_complete_until(str(self._lakehouse / "platform" / "complete_until"), query)
        return None if row is None else row["complete_until"]

    def is_read_through(self, version: int) -> bool:
        """Whether every stream over silver.events has read it up to this version."""
        return min(self._column("platform.complete_until", "source_version").to_pylist(), default=-1) >= version

    def busiest_user(self) -> str:
        """The user with the most events in silver.events."""
        counts = self._column("silver.events", "user_id").value_counts().to_pylist()
        return str(max(counts, key=lambda item: item["counts"])["values"])

    def read_partitions(self) -> set[int]:
        """The Kafka partitions of which something was read."""
        return {
            number for name in _OUTPUT_TABLES for number in self._column(name, "kafka_partition").unique().to_pylist()
        }

    def read_offsets(self, partition: int) -> list[int]:
        """The offsets of the partition's records that are in silver.events."""
        rows = self.open("silver.events").to_pyarrow_table(columns=["kafka_partition", "kafka_offset"])
        return list(rows.filter(pc.field("kafka_partition") == partition)["kafka_offset"].to_pylist())

    def count_in_range(self, partition: int, start: int, until: int) -> int:
        """Rows of silver.events of these offsets."""
        return sum(start <= offset < until for offset in self.read_offsets(partition))

    def delete_range(self, partition: int, start: int, until: int) -> bool:
        """Deletes rows of silver.events while the streams run; False where a batch was faster and nothing was done."""
        try:
            self.open("silver.events").delete(
                f"kafka_partition = {partition} and kafka_offset >= {start} and kafka_offset < {until}"
            )
        except CommitFailedError:
            return False
        return True

    def count_refused(self, reason: str) -> int:
        """Rows in quarantine for this reason."""
        return sum(found == reason for found in self._column("silver.quarantined_events", "reason").to_pylist())

    def is_erasing(self) -> bool:
        """Whether an erasure has begun and is not done."""
        return None in self._column("platform.forgotten_users", "erased_at").to_pylist()

    def read_balance(self, ends: Mapping[int, int]) -> tuple[int, int, int]:
        """Counts the records below `ends`, by partition: all, those in no table, those in several."""
        with duckdb.connect() as connection:
            for name in (*_OUTPUT_TABLES, _REQUEUED):
                connection.register(name.split(".")[1], self.open(name).to_pyarrow_dataset())
            # What was re-ingested is in quarantine too, as what it was.
            connection.execute(
                f"create view refused as from quarantined_events anti join requeued_records using ({_PLACE})"
            )
            places = [name.split(".")[1].replace("quarantined_events", "refused") for name in _OUTPUT_TABLES]
            rows = " union all ".join(f"select {_PLACE} from {name}" for name in places)
            sent = " union all ".join(f"select {p}, unnest(range({end}))" for p, end in ends.items())
            ((lost, doubled),) = connection.sql(
                f"""with placed({_PLACE}, n) as (select {_PLACE}, count(*) from ({rows}) group by all),
                         sent({_PLACE}) as ({sent})
                    select count(*) filter (n is null), coalesce(sum(n - 1), 0)::bigint
                             + count(*) filter (sent.kafka_offset is null)
                    from placed full join sent using ({_PLACE})"""
            ).fetchall()
        return sum(ends.values()), lost, doubled
