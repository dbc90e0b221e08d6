"""Puts a replayed table in the place of the live one, and back: rows in one commit of the same table, then the state.

The group must not run. Each step is done once, however often it is called: cut short anywhere, the same call goes on.
Between the first step and the last the stream has rows and no checkpoint, with which it does not start.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING
from urllib.parse import unquote

import msgspec

from jobs.operations.replay.shadow import Shadow
from platform_assets.errors import NotReadyError, StorageError
from platform_assets.streaming.checkpoint.checkpoint import Checkpoint
from platform_assets.streaming.checkpoint.state_stores import unload_state_stores
from platform_assets.streaming.delta.batch_writer import DeltaBatchWriter
from platform_assets.streaming.delta.commit_info import CommitInfo, CommitKind
from platform_assets.streaming.delta.delta_tables import build_arrow_schema, open_table
from platform_assets.streaming.delta.reader import DeltaReader
from platform_assets.streaming.delta.writer import DeltaWriter
from platform_assets.streaming.derive.kafka_publisher import KafkaPublisher
from platform_assets.streaming.repair.table_difference import COPIES, count_copies, leave_out_keys, select_columns
from platform_assets.tables.platform import COMPLETE_UNTIL, HOP_LEDGER, LATE_EVENTS

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import SparkSession

    from platform_assets.tables.spec import TableSpec

_KEPT = "_replays/{}.before"
"""What a swap has put aside, until the next replay of the stream: `undo_swap` puts it back."""
_JOURNAL = "swap.json"

# The tables of accounts: each row is written under the query's name.
_ACCOUNTS = (LATE_EVENTS, COMPLETE_UNTIL)


class _Journal(msgspec.Struct, frozen=True):
    """How far a swap has come, and the live table's version and its state's generation when it began."""

    state: str
    version: int
    generation: str | None


def is_half_done(shadow: Shadow) -> bool:
    """Whether a swap or its undoing was cut short: the stream can't start before it is called again."""
    journal = _read_journal(shadow)
    return journal is not None and journal.state in ("swapping", "undoing")


def swap_in(session: SparkSession, shadow: Shadow) -> int:
    """Returns the version of the live table that has the replayed rows.

    Raises `NotReadyError` when nothing has been replayed, or the last swap is half undone.
    """
    journal = _read_journal(shadow)
    checkpoint = Checkpoint.of(shadow.context, shadow.stream.main_table.name)
    if journal is not None and journal.state == "undoing":
        raise NotReadyError(f"The last swap is half undone. Finish that: headrace replay {shadow.stream.name} --undo")
    if journal is None or journal.state != "swapping":
        if checkpoint.read_last_committed_batch() is None:
            raise NotReadyError(f"Nothing has been replayed: {shadow.stream.name} has nothing to read yet.")
        journal = _begin(shadow)
    unload_state_stores(session)  # those of the replay that has filled the shadow in this process
    aside = f"{_kept(shadow)}/checkpoint"
    _demand(shadow)
    _move_checkpoint(shadow, shadow.live_checkpoint_folder, aside, journal.generation)
    if checkpoint.read_generation() is not None:  # else it has been moved, which is the last step
        last = checkpoint.read_last_plan()
        assert last is not None
        done, plan = last
        app = checkpoint.read_txn_app_id(shadow.stream.name)
        info = CommitInfo.of_batch(shadow.stream.name, app, done, kind=CommitKind.REPLAY, source=plan.source)
        version = _replace_rows(shadow, info)
        _replace_accounts(shadow, {spec.name: _read_own(shadow, spec, of_shadow=True) for spec in _ACCOUNTS}, version)
        hops = open_table(shadow.context.table_uri(HOP_LEDGER.name), shadow.context.storage_options).to_pyarrow_table()
        DeltaBatchWriter(HOP_LEDGER, shadow.live).append(hops, info)
        _demand(shadow)
        shadow.lakehouse.folder.move(shadow.checkpoint_folder, shadow.live_checkpoint_folder)
    _publish_changes(session, shadow, journal.version)
    shadow.lakehouse.folder.remove(shadow.folder)
    _write_journal(shadow, msgspec.structs.replace(journal, state="swapped"))
    return open_table(shadow.live.table_uri(shadow.stream.main_table.name), shadow.live.storage_options).version()


def undo_swap(session: SparkSession, shadow: Shadow) -> int:
    """Puts back table, state and accounts as they were before the swap; the stream reads again what came since.

    Returns the table's new version. Raises `NotReadyError` when there is nothing to undo, `StorageError` when files of
    the table as it was have been removed since (`HEADRACE_VACUUM_HOURS`); nothing is changed then.
    """
    journal = _read_journal(shadow)
    if journal is None or journal.state == "swapping":
        raise NotReadyError(f"There is no finished swap of {shadow.stream.name} to undo.")
    if journal.state == "swapped":
        _demand_files(shadow, journal.version)
    _write_journal(shadow, msgspec.structs.replace(journal, state="undoing"))
    unload_state_stores(session)
    aside = f"{_kept(shadow)}/checkpoint"
    table = DeltaWriter(shadow.stream.main_table, shadow.live)
    if shadow.lakehouse.folder.read_file(f"{aside}/metadata") is not None or journal.generation is None:
        _demand(shadow)
        shadow.lakehouse.remove_checkpoint(shadow.stream.main_table.name)
        table.restore(journal.version, CommitInfo(CommitKind.REPLAY_UNDONE, shadow.stream.name))
        _replace_accounts(shadow, {spec.name: _load_kept(shadow, spec) for spec in _ACCOUNTS}, table.version)
        if journal.generation is not None:
            _demand(shadow)
            shadow.lakehouse.folder.move(aside, shadow.live_checkpoint_folder)
    shadow.lakehouse.folder.remove(_kept(shadow))
    return table.version


def abandon(shadow: Shadow) -> None:
    """Removes what has been replayed. Raises `NotReadyError` half-way through a swap, which needs it."""
    if is_half_done(shadow):
        raise NotReadyError(f"A swap is half done. Finish it: headrace replay {shadow.stream.name} --swap (or --undo)")
    shadow.lakehouse.folder.remove(shadow.folder)


def _demand(shadow: Shadow) -> None:
    """Raises where the group is not ours any more: the live stream's folder is touched next."""
    if shadow.live.check_lease is not None:
        shadow.live.check_lease()


def _demand_files(shadow: Shadow, version: int) -> None:
    from deltalake.exceptions import DeltaError

    from platform_assets.delta_reader import ArrowReadTable

    name, root = shadow.stream.main_table.name, f"{shadow.live.lakehouse_root}/"
    there = {f"{root}{path}" for path in shadow.lakehouse.folder.list_files(name.replace(".", "/"))}
    try:
        table = ArrowReadTable(
            shadow.live.table_uri(name), version=version, storage_options=dict(shadow.live.storage_options)
        )
        missing = [uri for uri in table.file_uris() if unquote(uri) not in there]
    except DeltaError as error:  # its log is gone too
        missing = [str(error)]
    if missing:
        raise StorageError(
            f"{name} can't be put back to version {version}, whose files are gone: {missing[0]}. Nothing was changed. "
            f"Have it computed again: headrace recompute {shadow.stream.name}"
        )


def _begin(shadow: Shadow) -> _Journal:
    """Writes down how the live stream is now, before anything of it is touched."""
    shadow.lakehouse.folder.remove(_kept(shadow))
    for spec in _ACCOUNTS:
        _keep(shadow, spec, _read_own(shadow, spec, of_shadow=False))
    table = open_table(shadow.live.table_uri(shadow.stream.main_table.name), shadow.live.storage_options)
    generation = Checkpoint.of(shadow.live, shadow.stream.main_table.name).read_generation()
    journal = _Journal("swapping", table.version(), generation)
    _write_journal(shadow, journal)
    return journal


def _move_checkpoint(shadow: Shadow, path: str, aside: str, generation: str | None) -> None:
    """Moves the live checkpoint out of the way, if it is still the one that was there when the swap began."""
    name = shadow.stream.main_table.name
    if generation is not None and Checkpoint.of(shadow.live, name).read_generation() == generation:
        shadow.lakehouse.folder.move(path, aside)


def _replace_rows(shadow: Shadow, info: CommitInfo) -> int:
    table = DeltaBatchWriter(shadow.stream.main_table, shadow.live)
    uri = shadow.context.table_uri(shadow.stream.main_table.name)
    replayed = open_table(uri, shadow.context.storage_options)
    dataset = replayed.to_pyarrow_dataset()
    table.overwrite(dataset.to_batches, dataset.count_rows(), info)
    return table.version


def _publish_changes(session: SparkSession, shadow: Shadow, version: int) -> None:
    """Publishes what the swap has changed since that version, with tombstones for keys that are gone."""
    from pyspark.sql import functions as F

    stream, context = shadow.stream, shadow.live
    if stream.publish_topic not in context.publish_topics:
        return
    uri = context.table_uri(stream.main_table.name)
    rows, before = (
        select_columns(found.load(uri), stream.main_table.columns)
        for found in (session.read.format("delta"), session.read.format("delta").option("versionAsOf", version))
    )
    new = count_copies(rows, before).where(F.col(COPIES) > 0).select(*rows.columns)
    gone = leave_out_keys(before, rows, stream)
    publisher, newest = KafkaPublisher(stream, context), open_table(uri, context.storage_options).version()
    publisher.publish(session, new.toArrow(), "replay", newest)
    publisher.publish(session, gone.toArrow(), "replay", newest, removed=True)


def _replace_accounts(shadow: Shadow, rows: dict[str, pa.Table], version: int) -> None:
    import pyarrow as pa

    query = shadow.stream.name
    info = CommitInfo(CommitKind.REPLAY, query)
    for spec in _ACCOUNTS:
        table, own = DeltaWriter(spec, shadow.live), rows[spec.name]
        if spec is COMPLETE_UNTIL and len(own):
            place = own.schema.get_field_index("table_version")
            own = own.set_column(place, own.schema.field(place), pa.array([version] * len(own), pa.int64()))
        table.delete(f"query = '{query}'", info)
        table.put(own, f"t.query = '{query}'", info)


def _read_own(shadow: Shadow, spec: TableSpec, *, of_shadow: bool) -> pa.Table:
    import pyarrow.compute as pc

    context = shadow.context if of_shadow else shadow.live
    rows = DeltaReader(spec, context).read_arrow()
    return rows.filter(pc.field("query") == shadow.stream.name)


def _keep(shadow: Shadow, spec: TableSpec, rows: pa.Table) -> None:
    import pyarrow.parquet as pq

    content = io.BytesIO()
    pq.write_table(rows.cast(build_arrow_schema(spec)), content)
    shadow.lakehouse.folder.write_file(f"{_kept(shadow)}/{spec.name}.parquet", content.getvalue())


def _load_kept(shadow: Shadow, spec: TableSpec) -> pa.Table:
    import pyarrow.parquet as pq

    content = shadow.lakehouse.folder.read_file(f"{_kept(shadow)}/{spec.name}.parquet")
    assert content is not None
    return pq.read_table(io.BytesIO(content))


def _kept(shadow: Shadow) -> str:
    return _KEPT.format(shadow.stream.name)


def _read_journal(shadow: Shadow) -> _Journal | None:
    content = shadow.lakehouse.folder.read_file(f"{_kept(shadow)}/{_JOURNAL}")
    return None if content is None else msgspec.json.decode(content, type=_Journal)


def _write_journal(shadow: Shadow, journal: _Journal) -> None:
    shadow.lakehouse.folder.write_file(f"{_kept(shadow)}/{_JOURNAL}", msgspec.json.encode(journal))
