"""Replays what accepted records have of fields that the contract got later: from `unknown_fields`, not from Kafka.

So columns are filled of records that Kafka holds no longer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from jobs.operations.replay.comparison import Comparison, compare_rows
from jobs.operations.replay.kafka_range import KafkaReplay
from platform_assets.streaming.ingest.filled_fields import UNKNOWN, fill_fields, list_fillable
from platform_assets.streaming.repair.table_difference import select_columns

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import Column, DataFrame, SparkSession


class UnknownFieldsReplay(KafkaReplay):
    """Fills columns of a stream over Kafka. The scope's times are those that Kafka gave the records."""

    # Batches of the live stream add rows of records whose fields are filled already, and take nothing away.
    _goes_stale = False

    def describe(self) -> str:
        """See `RowReplay`."""
        return f"the fields {', '.join(each.name for each in list_fillable(self._stream.topic))} of what {UNKNOWN} has"

    def _compare(self, session: SparkSession) -> Comparison:
        from dataclasses import replace

        topic, rules, spec = self._stream.topic, self._context.event_rules, self._stream.main_table
        live = select_columns(session.read.format("delta").load(self._context.table_uri(spec.name)), spec.columns)
        live = live.where(self._choose_rows())

        def fill(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            return (fill_fields(batch, topic, rules) for batch in batches)

        replayed = live.mapInArrow(fill, live.schema)
        found = compare_rows(session, self._stream, replayed, live, self._difference)
        return replace(found, notes=tuple(self._describe_left(replayed)))

    def _choose_rows(self) -> Column:
        from pyspark.sql import functions as F

        chosen = F.col(UNKNOWN).isNotNull()
        if self._scope.since is not None:
            chosen &= F.col("kafka_timestamp") >= self._scope.since
        if self._scope.until is not None:
            chosen &= F.col("kafka_timestamp") < self._scope.until
        return chosen

    def _describe_left(self, replayed: DataFrame) -> Iterator[str]:
        """Describes the values that the contract does not take."""
        from pyspark.sql import functions as F

        names = {each.name: each.path[0] for each in list_fillable(self._stream.topic)}
        keys = F.json_object_keys(UNKNOWN)
        counts = replayed.agg(
            *(F.count_if(F.array_contains(keys, key)).alias(name) for name, key in names.items())
        ).collect()[0]
        for name in (name for name in names if counts[name]):
            yield f"{counts[name]:,} values of {name} are not what the contract says: they stay in {UNKNOWN}."

    def _bounds(self) -> str:
        return f"t.{UNKNOWN} is not null"
