"""What a relay is, as a frozen value: one query from a Kafka topic to others, record by record, in milliseconds.

A file in `platform_assets/relays/` builds one `RelayStream`; `streaming.engine.relay_group` runs it. Nothing here runs
or imports Spark.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from platform_assets.streaming.context import StreamContext
    from platform_assets.streaming.topic_spec import Topic
    from platform_assets.tables.spec import TableSpec


class Relay(Protocol):
    """A relay at work, in the driver: what it looks up, and what it makes of records."""

    def refresh(self) -> None:
        """Brings the tables that `transform` joins up to date.

        Called before the query starts, and again at `RelayStream.refresh_seconds` from another thread. What it cannot
        read for now it leaves as it was, and says so in the log; what it raises ends the group's run.
        """
        ...

    def name_built_in(self) -> str:
        """Names what `transform` would build into the query now. When that has changed, the query is started again."""
        ...

    def transform(self, session: SparkSession, records: DataFrame) -> DataFrame:
        """Rows with the columns `topic`, `partition`, `key` and `value` (text), for rows of Spark's Kafka source.

        Stateless, without Python functions: filters, projections, generators and joins with broadcast tables, which
        Spark reads anew for each batch. The first of `RelayStream.outputs` gets one row for each record, in the
        record's partition, whose value is a JSON object with `source_partition` and `source_offset`.
        """
        ...

    def close(self) -> None:
        """Gives back what it holds. Called once, after the query's end."""
        ...


@dataclass(frozen=True)
class RelayStream:
    """One query that reads a topic and writes topics, and no table. `name` is the query's.

    `outputs` are the topics that it writes, each with as many partitions as the source has, or more. `open` makes the
    relay, once a run. `tables` are those that the relay keeps up to date for its query.
    """

    name: str
    source: Topic
    outputs: tuple[str, ...]
    open: Callable[[StreamContext], Relay]
    refresh_seconds: float
    tables: tuple[TableSpec, ...] = ()

    @property
    def checkpoint(self) -> str:
        """The name of its checkpoint, as that of a table."""
        return f"relays.{self.name}"
