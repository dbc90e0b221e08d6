"""How far the platform is: what is done, of how much. A demonstration waits by these counts, and shows them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import dagster as dg

from platform_assets.checks.read_position import read_committed_offsets
from platform_assets.reports import list_report_tables, select_reports
from platform_assets.streaming.stream_spec import Stream, name_topics, select_derived, select_ingest
from platform_assets.tables.platform import COMPLETE_UNTIL
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings

Ends = Mapping[tuple[str, int], int]
"""By stream over Kafka and Kafka partition, the offset of the next record."""


class PlatformProgress:
    """Counts since it was made, each as (done, of how many). Reads Dagster's storage, Kafka and the tables.

    `streams` are those that are waited for: all, unless nothing is sent to some of their topics.
    """

    def __init__(self, settings: Settings, streams: Sequence[Stream]) -> None:
        self._settings = settings
        self._streams = streams
        self._topics = name_topics(streams, settings.topic)
        self._lakehouse = LakehouseResource.from_settings(settings)
        self._since = time.time()

    def read_ends(self) -> Ends:
        """The end of each partition of the topics."""
        with KafkaResource.from_settings(self._settings) as kafka:
            return {
                (name, partition): end
                for name, topic in self._topics.items()
                for partition, end in kafka.end_offsets(topic, committed=True).items()
            }

    def streams(self) -> tuple[int, int]:
        """Streams whose main table has a materialization of this run of the demonstration."""
        paths = [stream.main_table.asset_path for stream in self._streams]
        with dg.DagsterInstance.get() as instance:
            found = [instance.get_latest_materialization_event(dg.AssetKey(path)) for path in paths]
        return sum(event is not None and event.timestamp >= self._since for event in found), len(paths)

    def committed(self, ends: Ends) -> tuple[int, int]:
        """Records before `ends` that the streams over Kafka have committed."""
        committed: dict[tuple[str, int], int] = {}
        for stream in select_ingest(self._streams):
            table = self._lakehouse.find_table(stream.main_table.name)
            offsets = {} if table is None else read_committed_offsets(table)
            committed |= {(stream.name, partition): offset for partition, offset in offsets.items()}
        return sum(min(committed.get(where, 0), end) for where, end in ends.items()), sum(ends.values())

    def records(self) -> tuple[int, int]:
        """Records that the streams over Kafka have committed, of all in Kafka; one less until there is a ledger."""
        done, total = self.committed(self.read_ends())
        has_ledger = self._lakehouse.delta_table("platform.ledger").version() > 0
        return (done if has_ledger else min(done, total - 1)), total

    def reports(self) -> tuple[int, int]:
        """Reports whose table has a row."""
        reports = select_reports([table for stream in self._streams for table in stream.tables])
        tables = [self._lakehouse.find_table(table.name) for table in list_report_tables(reports)]
        filled = sum(table is not None and table.to_pyarrow_dataset().count_rows() > 0 for table in tables)
        return filled, len(tables)

    def final(self) -> tuple[int, int]:
        """Streams over a table with a moment up to which their own table is final: what the checks compare."""
        expected = [stream.name for stream in select_derived(self._streams)]
        table = self._lakehouse.find_table(COMPLETE_UNTIL.name)
        rows = [] if table is None else table.to_pyarrow_table().to_pylist()
        final = {row["query"] for row in rows if row["complete_until"] is not None}
        return sum(name in final for name in expected), len(expected)
