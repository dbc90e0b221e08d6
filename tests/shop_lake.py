"""A lakehouse of the shop as its streams write it, without Spark: tables over the events by the streams' rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import pyarrow as pa
from deltalake import write_deltalake

from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table
from platform_assets.streaming.stream_spec import select_derived
from platform_assets.streams import load_all_streams
from platform_assets.tables.platform import LEDGER
from platform_assets.tables.spec import TableSpec
from platform_assets.topics.events import EVENTS
from resources.lakehouse import LakehouseResource
from tests.spark.report_cases import Event, append_events, apply_rule


def append_rows(lakehouse: LakehouseResource, spec: TableSpec, rows: Sequence[Mapping[str, Any]]) -> None:
    """Appends rows, in one commit; columns that they leave out are null."""
    table = create_table(lakehouse.table_uri(spec.name), spec, lakehouse.storage_options())
    write_deltalake(table, pa.Table.from_pylist(list(rows), build_arrow_schema(spec)), mode="append")


def write_shop(lakehouse: LakehouseResource, events: Sequence[Event], first_offset: int = 0) -> None:
    """Appends the events, and writes each table of a stream over them anew."""
    append_events(lakehouse, events, first_offset)
    written = lakehouse.delta_table(EVENTS.name).to_pyarrow_table()
    for stream in select_derived(load_all_streams()):
        if stream.source.table == EVENTS:
            table = create_table(lakehouse.table_uri(stream.main_table.name), stream.main_table)
            write_deltalake(table, apply_rule(stream, written), mode="overwrite")


def write_ledger(lakehouse: LakehouseResource, query: str, counts: Mapping[str, int | None], at: datetime) -> None:
    """A row of the ledger with these counts."""
    append_rows(lakehouse, LEDGER, [{"query": query, "batch_id": 1, "arrived_at": at, **counts}])
