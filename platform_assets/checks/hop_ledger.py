"""The check that each stream over a table has read every row of it once, and where these rows are.

The account is `platform.hop_ledger`. Its batches must follow one another without a hole or an overlap, from the first;
the rows that they passed must be all that the source had at the version that they have come to, by the log's statistics
of that version, with what was erased of forgotten users and what has expired; and where Spark has said how many rows it
read, that must be what the source's writer said it wrote. That what came out is right is the twin's to say (check
`parity`). Reads no rows but the ledger's: seconds at any size.
"""

# No postponed annotations in this file: Dagster reads those of assets and checks at definition time.
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

from platform_assets.checks.ledger import FOLLOW_THE_STREAM, LEDGER
from platform_assets.checks.ledger_entries import MAX_EXAMPLES
from platform_assets.streaming.repair.expiry import find_expired
from platform_assets.streaming.stream_spec import Stream, TableStream, select_derived

if TYPE_CHECKING:
    import pyarrow as pa

_NOT_YET = "No batch of the stream is accounted for yet."


def build_hop_ledger_checks(streams: Iterable[Stream]) -> list[dg.AssetChecksDefinition]:
    """One check `ledger` for each stream over a table; needs the resource `lakehouse`."""
    return [_build_check(stream) for stream in select_derived(streams)]


def find_hop_breaches(hops: "pa.Table", source_rows: int | None) -> list[str]:
    """What is wrong with the account of one query and checkpoint; the first few of each kind.

    `hops` are its rows of `platform.hop_ledger`, in any order. `source_rows` are the rows that the source had at the
    version to which the last batch has come; None: not known.
    """
    import duckdb

    with duckdb.connect() as connection:
        connection.register("hops", hops)
        found = [text for sql in (_HOLES, _MISCOUNTS) for (text,) in connection.sql(sql).fetchall()]
        passed, unknown = connection.sql(
            "select sum(rows_passed)::bigint, count(*) - count(rows_passed) from hops"
        ).fetchall()[0]
    if source_rows is not None and not unknown and passed != source_rows:
        found.append(f"The batches passed {passed:,} rows, but the source had {source_rows:,} where they have come to.")
    return found


_HOLES = f"""
    with ordered as (
        select *, coalesce(lag(batch_id) over batches, -1) as batch_before,
               coalesce(lag(until_version) over batches, -1) as version_before,
               coalesce(lag(until_files) over batches, -1) as files_before
        from hops window batches as (order by batch_id))
    select format('Batch {{}} begins behind version {{}} (files {{}}), batch {{}} ended at version {{}} (files {{}}).',
                  first_batch_id, from_version, from_files, batch_before, version_before, files_before)
    from ordered
    where (first_batch_id, from_version, from_files) != (batch_before + 1, version_before, files_before)
    order by batch_id limit {MAX_EXAMPLES}"""
_MISCOUNTS = f"""
    select format('Batch {{}} read {{}} rows of versions {{}} to {{}}, whose writer wrote {{}}.',
                  batch_id, rows_read, from_version + 1, until_version, rows_in)
    from hops where rows_read != rows_in order by batch_id limit {MAX_EXAMPLES}"""
_COLUMNS = [
    "query", "txn_app_id", "first_batch_id", "batch_id", "from_version", "from_files", "until_version", "until_files",
    "rows_passed", "rows_in", "rows_read", "rows_out", "rows_late", "rows_in_state", "rows_expired", "planned_at",
]  # fmt: skip
_SUMS = ("rows_passed", "rows_in", "rows_read", "rows_out", "rows_late", "rows_expired")


def _count(hops: "pa.Table") -> dict[str, int]:
    import pyarrow.compute as pc

    totals = {name: pc.sum(hops[name]).as_py() or 0 for name in _SUMS}
    states = hops.sort_by("batch_id")["rows_in_state"].drop_null()
    return {
        **totals,
        "rows_in_state": states[-1].as_py() if len(states) else 0,
        "batches_unread": hops["rows_read"].null_count,
    }


def _describe(stream: TableStream, totals: Mapping[str, int]) -> str:
    n = {name: f"{total:,}" for name, total in totals.items()}
    said = (
        f"{n['rows_in']} of {n['rows_passed']} rows of {stream.source.table.name} are of its types and were read, each "
        f"once: {n['rows_out']} rows written, {n['rows_in_state']} in state, {n['rows_late']} late "
        f"({n['late_repaired']} repaired since, {n['late_waiting']} waiting)."
    )
    unread = f" Of {n['batches_unread']} batches a crash took Spark's own count along, or tasks ran twice."
    return said + (unread if totals["batches_unread"] else "")


def _build_check(stream: TableStream) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=list(stream.main_table.asset_path),
        name=LEDGER,
        description=f"The stream {stream.name} has read every row of its source once; rows in, out, late and in state.",
        required_resource_keys={"lakehouse"},
        automation_condition=FOLLOW_THE_STREAM,
    )
    def ledger(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        lakehouse = context.resources.lakehouse
        hops = _read_hops(lakehouse, stream)
        if not len(hops):
            return dg.AssetCheckResult(passed=True, description=_NOT_YET)
        source_rows = _count_source(lakehouse, stream, hops)
        if source_rows is not None:
            source_rows += _count_erased(lakehouse, stream, hops) + _count_expired(lakehouse, stream, hops)
        breaches = find_hop_breaches(hops, source_rows)
        totals = {**_count(hops), **_count_late(lakehouse, stream.name)}
        return dg.AssetCheckResult(
            passed=not breaches,
            description="\n".join(breaches) if breaches else _describe(stream, totals),
            metadata={f"ledger/{name}": value for name, value in totals.items()},
        )

    return ledger


def _read_hops(lakehouse: Any, stream: TableStream) -> "pa.Table":
    """The account of the stream's newest checkpoint."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from platform_assets.delta_reader import read_portions

    table = lakehouse.find_table("platform.hop_ledger")
    if table is None:
        return pa.table({})
    portions = read_portions(table.to_pyarrow_dataset(), _COLUMNS)
    own = (portion.filter(pc.field("query") == stream.name) for portion in portions)
    parts = [part for part in own if len(part)]
    if not parts:
        return pa.table({})
    rows = pa.concat_tables(parts)
    newest = rows["txn_app_id"][pc.index(rows["planned_at"], pc.max(rows["planned_at"])).as_py()]
    return rows.filter(pc.equal(rows["txn_app_id"], newest))


def _count_source(lakehouse: Any, stream: TableStream, hops: "pa.Table") -> int | None:
    """Rows of the source at the version to which the last hop has come; None inside a version, or where it is gone."""
    from deltalake.exceptions import DeltaError

    last = hops.sort_by("batch_id").slice(len(hops) - 1).to_pylist()[0]
    if last["until_files"] != -1:
        return None
    table = lakehouse.delta_table(stream.source.table.name)
    try:
        table.load_as_version(last["until_version"])
    except DeltaError:  # its log was cleaned up: the stream has been down for long
        return None
    return int(table.count())


def _count_erased(lakehouse: Any, stream: TableStream, hops: "pa.Table") -> int:
    """Rows of forgotten users that the query has passed and the source no longer has where the query has come to."""
    from platform_assets.streaming.register.forgotten_users import find_erasures

    users = lakehouse.find_table("platform.forgotten_users")
    if users is None:  # no query has started since there is such a table
        return 0
    rows, source = users.to_pyarrow_table().to_pylist(), stream.source.table.name
    erasures = [erasure for row in rows for erasure in find_erasures(row, source)]
    first, last = _find_versions(hops)
    return sum(count for version, count in erasures if first < version <= last)


def _count_expired(lakehouse: Any, stream: TableStream, hops: "pa.Table") -> int:
    """Rows whose days have expired since the query passed them."""
    expired = find_expired(lakehouse).get(stream.source.table.name)
    return 0 if expired is None else expired.count(*_find_versions(hops))


def _find_versions(hops: "pa.Table") -> tuple[int, int]:
    """A checkpoint begins with the state of the first version, and has passed what came up to the last."""
    versions = hops["until_version"].to_pylist()
    return min(versions), max(versions)


def _count_late(lakehouse: Any, query: str) -> dict[str, int]:
    import pyarrow.compute as pc

    from platform_assets.delta_reader import read_portions

    # Filtered by name afterwards: Arrow has no filters for the text columns of files that delta-rs has merged.
    rows = lakehouse.delta_table("platform.late_events").to_pyarrow_dataset()
    waiting = repaired = 0
    for portion in read_portions(rows, ["query", "repaired_at"]):
        own = portion.filter(pc.field("query") == query)["repaired_at"]
        waiting += own.null_count
        repaired += len(own) - own.null_count
    return {"late_waiting": waiting, "late_repaired": repaired}
