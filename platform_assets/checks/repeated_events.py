"""The check that says whether an event is in a table twice: sent again after the deduplication horizon.

The ledger counts records, each of which is in one place; that two of them are one event only their ids tell. An event
that is sent again carries the time of the first, so both lie in one day's partition. The newest events are looked at,
as many as one run can afford; a small lakehouse whole.
"""

# No postponed annotations in this file: Dagster reads those of assets and checks at definition time.
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import dagster as dg

from platform_assets.checks.duckdb_check import build_duckdb_check
from platform_assets.checks.newest_events import register_newest
from platform_assets.streaming.stream_spec import Stream, TableSource, select_derived

if TYPE_CHECKING:
    import duckdb
    from deltalake import DeltaTable

# Coordinates that are shown: enough to look at the records, and no more is kept with every verdict.
_SHOWN = 5

# Nothing but numbers is held for each id; places are looked up for those that are shown.
# The view has the events' id in the column `_id`.
_REPEATED = """
    SELECT _id, count(*) AS copies, min(event_time) < max(event_time) AS is_of_several FROM identified
    GROUP BY _id HAVING count(*) > 1
"""
_TOTALS = f"""
    SELECT count(*) AS ids, coalesce(sum(copies - 1), 0)::BIGINT AS repeats,
           count(*) FILTER (is_of_several) AS ids_of_several_events FROM ({_REPEATED})
"""
_PLACES = f"""
    SELECT list(topic || '/' || kafka_partition || '/' || kafka_offset ORDER BY ingested_at, kafka_offset) AS places
    FROM identified JOIN (SELECT _id FROM ({_REPEATED}) ORDER BY _id LIMIT {_SHOWN}) USING (_id)
    GROUP BY _id ORDER BY _id
"""


def build_repeated_events_checks(streams: Iterable[Stream]) -> list[dg.AssetChecksDefinition]:
    """One check `repeated_events` for each table with ids that a stream reads; needs `lakehouse` and `duckdb`."""
    sources = {stream.source.table.name: stream.source for stream in select_derived(streams)}
    ids = [(source, source.table.roles.event_id) for source in sources.values()]
    return [_build_check(source, id_column) for source, id_column in ids if id_column is not None]


def _build_check(source: TableSource, id_column: str) -> dg.AssetChecksDefinition:
    def look(connection: "duckdb.DuckDBPyConnection", events: "DeltaTable") -> dg.AssetCheckResult:
        start = register_newest(connection, events, source)
        connection.execute(f'CREATE TEMP VIEW identified AS SELECT *, "{id_column}" AS _id FROM events')
        (totals,) = connection.sql(_TOTALS).to_arrow_table().to_pylist()
        shown = connection.sql(_PLACES).to_arrow_table().to_pylist() if totals["ids"] else []
        return judge(id_column, totals, shown, "the beginning" if start is None else f"{start:%Y-%m-%d %H:%M} UTC")

    return build_duckdb_check(
        source.table, "repeated_events",
        f"No event is in {source.table.name} twice, however late it was sent again.",
        look, "There is no event yet.",
    )  # fmt: skip


def judge(id_column: str, totals: dict[str, Any], shown: list[dict[str, Any]], since: str) -> dg.AssetCheckResult:
    """The verdict; repeats are a warning, for a horizon was chosen."""
    if not totals["ids"]:
        description = f"No {id_column} is there twice, of the events since {since}."
        return dg.AssetCheckResult(passed=True, description=description)
    return dg.AssetCheckResult(
        passed=False,
        severity=dg.AssetCheckSeverity.WARN,
        description=(
            f"{totals['repeats']:,} events since {since} repeat an {id_column} that is there already "
            f"({totals['ids']:,} ids, {totals['ids_of_several_events']:,} of them with several times): "
            "what is sent again later than the deduplication horizon (HEADRACE_DEDUPLICATION_HORIZON_MINUTES) with "
            "another time is taken for another event. The sender gives ids twice, or events new times, or "
            "deduplication was off. They count "
            f"twice in every table. The first: {', '.join(' and '.join(row['places']) for row in shown)}; "
            "headrace explain --offset shows each."
        ),
        metadata={"repeated_ids": totals["ids"], "repeats": totals["repeats"]},
    )
