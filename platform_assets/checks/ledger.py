"""The check that nothing was lost or doubled on the way from Kafka into the tables. Zero tolerance.

Of the writer's code it shares only what joins the accounts of a day: Arrow reads the rows, numpy counts them, and a
reader of its own, by the same client library, reads Kafka a second time.
What a person has acknowledged as lost (`platform.lost_ranges`) is no breach, and is said with every verdict.
Three proofs: the batches' ranges follow one another without a hole or an overlap, from the first offset read to the
checkpoint's last batch, and each batch's numbers add up; each offset of these ranges is in exactly one of the stream's
tables or in a recorded gap; each gap that Kafka still holds is read again and has no record.
"""

# No postponed annotations in this file: Dagster reads those of assets and checks at definition time.
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import dagster as dg

from platform_assets.checks.acknowledged_losses import Hole, Losses
from platform_assets.checks.ledger_breaches import (
    find_gap_breaches,
    find_ledger_breaches,
    find_row_breaches,
)
from platform_assets.checks.ledger_entries import (
    ARRIVAL_COLUMNS,
    Batches,
    Entry,
    read_all_entries,
    read_checkpoint_batch,
    read_entries,
)
from platform_assets.checks.ledger_gaps import PERHAPS_COMPACTED, count_gaps, describe_gaps
from platform_assets.checks.ledger_proof import NEWEST_COMMITS, Appended, Proof, find_appended, find_batches, open_files
from platform_assets.checks.ledger_topics import count_rows, find_topics
from platform_assets.folders import Folder
from platform_assets.streaming.delta.commit_log import CommitLog
from platform_assets.streaming.repair.expiry import find_expired
from platform_assets.streaming.stream_spec import KafkaStream
from platform_assets.tables.coordinates import Coordinates
from resources.kafka import KafkaResource

LEDGER = "ledger"
# Dagster shows a verdict until the table is materialized again, which a stream's is each half hour: a proof that is
# to be seen must follow. It needs no Spark, and reads what is new.
# Without `since`: it would lose a materialization that comes between a look that asked for a run and the next look.
FOLLOW_THE_STREAM = dg.AutomationCondition.any_deps_updated().with_label("follow the stream")
_PROOF = "ledger/proof"
_ERASED = "platform.erased_records"
_FORGOTTEN = "platform.forgotten_users"
# A day of hourly checks that failed: after it everything is proved anew in any case.
_PROOFS_SEARCHED = 24


@dataclass(frozen=True)
class Audit:
    """What the check found: `breaches` is empty when the ledger balances, and then `proof` holds.

    `acknowledged` says what was lost before. `erasing`: a user's records were being taken out, and were looked for in
    one place or two.
    """

    breaches: tuple[str, ...]
    totals: Mapping[str, int]
    acknowledged: tuple[str, ...]
    proof: Proof
    erasing: bool = False


def build_ledger_checks(streams: Iterable[KafkaStream]) -> list[dg.AssetChecksDefinition]:
    """One check `ledger` for each stream over Kafka; needs the resources `lakehouse` and `kafka`."""
    return [_build_check(stream) for stream in streams]


def audit_stream(stream: KafkaStream, lakehouse: Any, kafka: KafkaResource, proof: Proof | None = None) -> Audit:
    """Runs all three proofs on one stream's tables: on what was appended since `proof`, or where it fell, on all.

    Consistent while a writer runs: see the order of the reads.
    """
    # The checkpoint first, then the main table, then the others, which commit before it: what the checkpoint has,
    # the main table has; what the main table has, the others have.
    options, now = lakehouse.storage_options(), datetime.now(UTC)
    committed = read_checkpoint_batch(Folder(lakehouse.checkpoint_uri(stream.main_table.name), options))
    names = dict(zip(ARRIVAL_COLUMNS, [*(table.name for table in stream.tables), _ERASED], strict=True))
    tables = {outcome: lakehouse.delta_table(name) for outcome, name in names.items() if name != _ERASED}
    if (erased := lakehouse.find_table(_ERASED)) is not None:  # an older version had none
        tables["erased"] = erased
    logs = {o: CommitLog(lakehouse.table_uri(names[o]), ARRIVAL_COLUMNS[o], options) for o in tables}
    appended = {}
    if proof is not None and proof.is_recent(now) and proof.tables.keys() == tables.keys():
        for outcome, table in tables.items():
            appended[outcome] = find_appended(stream.name, table, logs[outcome], proof.tables[outcome])
    events = tables["accepted"]
    lost_ranges = _read_rows(lakehouse, "platform.lost_ranges")
    losses = Losses(lost_ranges)
    being_erased = _find_being_erased(erased, _read_rows(lakehouse, _FORGOTTEN))
    if proof is None or being_erased or len(appended) < len(tables) or None in appended.values():
        proof = None
        entries = read_all_entries(stream.name, events, lakehouse.find_table("platform.ledger"), lost_ranges)
        datasets = {outcome: table.to_pyarrow_dataset() for outcome, table in tables.items()}
    else:
        newer = events.version() - proof.tables["accepted"][1]
        entries = read_entries(events, newer) if newer else []
        datasets = {o: open_files(tables[o], logs[o], found.files) for o, found in appended.items() if found}
    topics = find_topics(entries, proof)
    being_erased = [row for row in being_erased if row["topic"] in topics]
    requeued = [row for row in _read_rows(lakehouse, "platform.requeued_records") if row["topic"] in topics]
    expired = partial(_count_expired, lakehouse, {names[o]: table.version() for o, table in tables.items()})
    evidence = _Evidence(
        stream.name, topics, committed, tables, entries, datasets, appended, losses, requeued, being_erased, expired,
        now, stream.topic.is_list,
    )  # fmt: skip
    try:
        return _prove(evidence, kafka, proof)
    except FileNotFoundError:
        if proof is None:
            raise
        return audit_stream(stream, lakehouse, kafka)  # compacted since, and vacuumed


@dataclass(frozen=True)
class _Evidence:
    """What one audit looks at: `entries` and `datasets` of what is not proved yet. `topics` are those ever read."""

    query: str
    topics: frozenset[str]
    committed: int
    tables: Mapping[str, Any]
    entries: Sequence[Entry]
    datasets: Mapping[str, Any]
    appended: Mapping[str, Appended | None]
    losses: Losses
    requeued: Sequence[Mapping[str, Any]]
    being_erased: Sequence[Mapping[str, Any]]
    count_expired: Callable[[], int]
    now: datetime
    is_list: bool


def _prove(found: _Evidence, kafka: KafkaResource, proof: Proof | None) -> Audit:
    losses, fresh = found.losses, found.losses.rename(found.entries)
    entries = [*(proof.as_entries() if proof else []), *fresh]
    holes = losses.find_holes(entries)
    breaches = find_ledger_breaches(entries, holes)
    newest = max((e.batch_id for e in fresh if e.txn_app_id == fresh[-1].txn_app_id), default=None)
    if newest is not None and newest < found.committed:
        breaches.append(f"The checkpoint has batch {found.committed}, the table's newest batch is {newest}.")
    expired = found.count_expired if proof is None else lambda: 0  # what a proof holds of has lost no row since
    breaches += find_row_breaches(
        entries, found.datasets, holes, losses, found.requeued, found.being_erased, expired, found.is_list
    )
    held = [
        e
        for e in found.entries
        if losses.name_of(e.topic, e.kafka_partition, e.arrival_micros)
        == losses.name_of(e.topic, e.kafka_partition, math.inf)
    ]
    breaches += find_gap_breaches(held, kafka)
    totals = _count(fresh, holes) | count_gaps(found.entries, held, kafka)
    if proof is not None:
        totals = {name: count + proof.totals.get(name, 0) for name, count in totals.items()}
    # Of a list each record has a row there.
    totals["requeued"] = len({(Coordinates.of(row), row["requeued_at"]) for row in found.requeued})
    totals["expired"] = found.count_expired()
    erased = found.tables.get("erased")
    totals["erased_in_all"] = 0 if erased is None else count_rows(erased.to_pyarrow_dataset(), found.topics)
    holds = _build_proof(found, entries, totals, proof)
    return Audit(tuple(breaches), totals, losses.describe(), holds, erasing=bool(found.being_erased))


def _build_proof(found: _Evidence, entries: Sequence[Entry], totals: Mapping[str, int], proof: Proof | None) -> Proof:
    """What holds where there is no breach. Batches in flight are left to the next audit."""
    until: dict[tuple[str, int], int] = {}
    for entry in entries:
        where = (entry.topic, entry.kafka_partition)
        until[where] = max(until.get(where, 0), entry.until_offset)
    done = Batches(found.entries)
    versions = {}
    for outcome, table in found.tables.items():
        appended = found.appended.get(outcome) or find_batches(found.query, table, NEWEST_COMMITS)
        versions[outcome] = (str(table.metadata().id), appended.proved_version(table.version(), done))
    full_at = proof.full_at if proof else found.now.isoformat()
    return Proof(versions, tuple((topic, p, offset) for (topic, p), offset in until.items()), dict(totals), full_at)


def _count(entries: Sequence[Entry], holes: Sequence[Hole]) -> dict[str, int]:
    totals = {name: sum(getattr(entry, name) for entry in entries) for name in ("rows_in", *ARRIVAL_COLUMNS)}
    totals["offsets_without_record"] = sum(end - start for entry in entries for start, end in entry.gaps)
    totals["batches"] = len(Batches(entries))
    totals["acknowledged_as_lost"] = sum(hole.high - hole.low for hole in holes)
    return totals


def _find_being_erased(erased: Any | None, users: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of `platform.erased_records` whose erasure is under way: the record may be in its table still."""
    import pyarrow.compute as pc

    begun = [user["forgotten_at"] for user in users if user["erased_at"] is None]
    if erased is None or not begun:
        return []
    rows = erased.to_pyarrow_table(filters=pc.field("erased_at") >= min(begun))
    return [row for row in rows.to_pylist() if not row["was"].endswith("on_arrival")]


def _count_expired(lakehouse: Any, versions: Mapping[str, int]) -> int:
    """Rows that expired in these tables up to these versions."""
    expired = find_expired(lakehouse)
    return sum(expired[name].count(-1, version) for name, version in versions.items() if name in expired)


def _read_rows(lakehouse: Any, name: str) -> list[dict[str, Any]]:
    """All rows of a table; none of one that an older version did not have."""
    table = lakehouse.find_table(name)
    return [] if table is None else list(table.to_pyarrow_table().to_pylist())


def _build_check(stream: KafkaStream) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=list(stream.main_table.asset_path),
        name=LEDGER,
        description="Every Kafka offset is in exactly one table or a proved gap; nothing lost, nothing doubled.",
        required_resource_keys={"lakehouse", "kafka"},
        automation_condition=FOLLOW_THE_STREAM,
    )
    def ledger(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        lakehouse = context.resources.lakehouse
        if missing := [table.name for table in stream.tables if lakehouse.find_table(table.name) is None]:
            return _judge_missing(missing, stream, lakehouse)
        proof = _read_proof(context.instance, dg.AssetCheckKey(dg.AssetKey(stream.main_table.asset_path), LEDGER))
        audit = audit_stream(stream, lakehouse, context.resources.kafka, proof)
        totals: dict[str, Any] = {f"ledger/{name}": value for name, value in audit.totals.items()}
        if audit.breaches:
            return dg.AssetCheckResult(passed=False, description="\n".join(audit.breaches), metadata=totals)
        said = _describe(audit.totals)
        if audit.erasing:
            said += " A user is being forgotten: the records are counted once, while they go from one table to another."
        if audit.acknowledged:
            said += f" Acknowledged as lost, and not in this sum: {'; '.join(audit.acknowledged)}."
        said += describe_gaps(audit.totals)
        proved = {**totals, _PROOF: dg.MetadataValue.text(audit.proof.dump())}
        # Nothing that was read is lost or doubled, but events may be missing that nobody could read.
        return dg.AssetCheckResult(
            passed=not audit.totals[PERHAPS_COMPACTED], severity=dg.AssetCheckSeverity.WARN, description=said,
            metadata=proved,
        )  # fmt: skip

    return ledger


def _judge_missing(missing: Sequence[str], stream: KafkaStream, lakehouse: Any) -> dg.AssetCheckResult:
    """Tables are made before the first batch: without one nothing has been read yet, or what it held is lost."""
    main = lakehouse.find_table(stream.main_table.name)
    checkpoint = Folder(lakehouse.checkpoint_uri(stream.main_table.name), lakehouse.storage_options())
    if read_checkpoint_batch(checkpoint) < 0 and (main is None or not read_entries(main)):
        return dg.AssetCheckResult(passed=True, description="The stream has not run yet: nothing is accounted for.")
    return dg.AssetCheckResult(
        passed=False,
        description=f"{stream.name} has read records, and {' and '.join(missing)} no longer exists: what it held is in "
        "no table. Put it back from a backup (headrace restore), or read its records again while Kafka holds them "
        f"(headrace replay {stream.name}).",
    )


def _describe(totals: Mapping[str, int]) -> str:
    said = ", ".join(f"{totals[name]:,} {name}" for name in ("accepted", "quarantined", "deduplicated"))
    if totals["erased"]:
        said += f", {totals['erased']:,} erased on arrival"
    said = f"Lost 0, doubled 0: {totals['rows_in']:,} records in = {said}."
    if totals["requeued"]:
        said += f" {totals['requeued']:,} of the quarantined were re-ingested since."
    if totals["expired"]:
        said += f" {totals['expired']:,} of these records have expired since (HEADRACE_RETENTION_DAYS)."
    if erased := totals["erased_in_all"] - totals["erased"]:
        said += f" {erased:,} of these records are erased since, of users who were forgotten."
    return said


def _read_proof(instance: dg.DagsterInstance, check: dg.AssetCheckKey) -> Proof | None:
    """What the newest check without a breach has proved. It lies with the verdict: a lost home costs a full audit."""
    for record in instance.event_log_storage.get_asset_check_execution_history(check, limit=_PROOFS_SEARCHED):
        evaluation = record.event.asset_check_evaluation if record.event is not None else None
        if evaluation is None or _PROOF not in evaluation.metadata:
            continue
        proof = Proof.load(str(evaluation.metadata[_PROOF].value))
        if proof is not None:
            return proof
    return None
