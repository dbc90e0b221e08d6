"""The check that nothing was lost or doubled on the way from Kafka into the tables. Zero tolerance.

It shares no code with the writer: Arrow reads the rows, DuckDB compares them, librdkafka reads Kafka a second time.
What a person has acknowledged as lost (`platform.lost_ranges`) is no breach, and is said with every verdict.
Three proofs: the batches' ranges follow one another without a hole or an overlap, from the first offset read to the
checkpoint's last batch, and each batch's numbers add up; each offset of these ranges is in exactly one of the stream's
tables or in a recorded gap; each gap that Kafka still holds is read again and has no record.
"""

# No postponed annotations in this file: Dagster reads those of assets and checks at definition time.
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import dagster as dg

from platform_assets.checks.acknowledged_losses import Hole, Losses
from platform_assets.checks.ledger_entries import Entry, place, read_all_entries, read_checkpoint_batch
from platform_assets.streaming.specs import StreamSpec

# A breach is shown by its first examples: a table of a million lost offsets helps nobody.
MAX_EXAMPLES = 5
# The column that has a record's time of arrival, by what became of it.
_ARRIVAL = {"accepted": "ingested_at", "quarantined": "quarantined_at", "deduplicated": "deduplicated_at"}


class RecordFinder(Protocol):
    """What the check needs of Kafka (`resources.kafka.KafkaResource`)."""

    def find_records(self, topic: str, ranges: Sequence[tuple[int, int, int]]) -> list[tuple[int, int]]:
        """The (partition, offset) of every committed record in ranges of (partition, from, until)."""
        ...


@dataclass(frozen=True)
class Audit:
    """What the check found. `breaches` is empty when the ledger balances; `acknowledged` says what was lost before."""

    breaches: tuple[str, ...]
    totals: Mapping[str, int]
    acknowledged: tuple[str, ...] = ()


def build_ledger_checks(streams: Iterable[StreamSpec]) -> list[dg.AssetChecksDefinition]:
    """One check `ledger` for each stream over Kafka; needs the resources `lakehouse` and `kafka`."""
    return [_build_check(stream) for stream in streams]


def find_ledger_breaches(entries: Sequence[Entry], holes: Sequence[Hole] = ()) -> list[str]:
    """Holes (but `holes`) and overlaps between batches, and accounts that do not add up; one sentence each."""
    breaches = []
    known = set(holes)
    reached: dict[tuple[str, int], Entry] = {}
    for entry in sorted(entries, key=place):
        where = f"{entry.topic}/{entry.kafka_partition}"
        before = reached.get((entry.topic, entry.kafka_partition))
        hole = (
            None if before is None else Hole(entry.topic, entry.kafka_partition, before.until_offset, entry.from_offset)
        )
        if before is not None and entry.from_offset != before.until_offset and hole not in known:
            kind = "lost" if entry.from_offset > before.until_offset else "read twice"
            low, high = sorted((before.until_offset, entry.from_offset))
            batches = f"batch {before.batch_id} and {entry.batch_id}"
            breaches.append(f"{where}: offsets {low} to {high - 1} were {kind} between {batches}.")
        reached[entry.topic, entry.kafka_partition] = entry
        outcomes = entry.accepted + entry.quarantined + entry.deduplicated
        gap_length = sum(end - start for start, end in entry.gaps)
        length = entry.until_offset - entry.from_offset
        if entry.rows_in != outcomes or entry.rows_in + gap_length != length:
            breaches.append(
                f"{where}: batch {entry.batch_id} read {length} offsets but accounts for "
                f"{outcomes} rows and {gap_length} offsets without a record."
            )
    return breaches


def find_row_breaches(
    entries: Sequence[Entry], tables: Mapping[str, Any], holes: Sequence[Hole] = (), losses: Losses | None = None
) -> list[str]:
    """Offsets that are not in exactly one place, by the tables' own coordinates.

    `tables` maps each outcome (accepted, quarantined, deduplicated) to its Arrow dataset with `topic`,
    `kafka_partition`, `kafka_offset`. Rows at or after a partition's last committed offset are a batch in flight and
    not looked at, except in the accepted table, whose commit is the batch's end.
    """
    import duckdb
    import pyarrow as pa

    connection = duckdb.connect()
    spans = [(e.topic, e.kafka_partition, e.from_offset, e.until_offset) for e in entries]
    gaps = [(e.topic, e.kafka_partition, start, end) for e in entries for start, end in e.gaps]
    gaps += [(hole.topic, hole.kafka_partition, hole.low, hole.high) for hole in holes]
    for name, ranges in (("spans", spans), ("gaps", gaps)):
        values = list(zip(*ranges, strict=True)) or [(), (), (), ()]
        types = (pa.string(), pa.int32(), pa.int64(), pa.int64())
        arrays = [pa.array(v, t) for v, t in zip(values, types, strict=True)]
        connection.register(name, pa.table(arrays, names=["topic", "p", "low", "high"]))
    for outcome, rows in tables.items():
        connection.register(outcome, rows)
    losses = losses or Losses(())
    union = " union all ".join(
        f"select '{o}' as place, {losses.sql_name(_ARRIVAL[o])} topic, kafka_partition p, kafka_offset o from {o}"
        for o in tables
    )
    connection.execute(f"""
        create temp table ends as select topic, p, min(low) low, max(high) high from spans group by all;
        create temp table places as
          select r.*, e.low, e.high from ({union}) r left join ends e using (topic, p)
          union all
          select 'gap', g.topic, g.p, unnest(range(g.low, g.high)), e.low, e.high
          from gaps g join ends e using (topic, p);
    """)
    breaches = _describe(
        connection.sql("""select topic, p, o, string_agg(place, ' and ' order by place) what from places
                          where o >= low and o < high group by all having count(*) > 1 order by all"""),
        "is in more than one place",
    )
    breaches += _describe(
        connection.sql("""select topic, p, o, place what from places
                          where o < low or low is null or (o >= high and place = 'accepted') order by all"""),
        "was read by no recorded batch",
    )
    breaches += _describe(
        connection.sql("""select s.topic, s.p, s.o, 'no table' what from
                          (select topic, p, unnest(range(low, high)) o from ends where high - low != (select
                             count(distinct o) from places where topic = ends.topic and p = ends.p and o >= low
                             and o < high)) s
                          anti join places using (topic, p, o) order by all"""),
        "is lost",
    )
    return breaches


def find_gap_breaches(entries: Sequence[Entry], kafka: RecordFinder) -> list[str]:
    """Records that a second read finds where the writer found none."""
    breaches = []
    for topic in sorted({entry.topic for entry in entries}):
        ranges = [(e.kafka_partition, start, end) for e in entries if e.topic == topic for start, end in e.gaps]
        found = kafka.find_records(topic, ranges) if ranges else []
        breaches += [
            f"{topic}/{p}/{o} has a record, but the stream recorded a gap there." for p, o in found[:MAX_EXAMPLES]
        ]
    return breaches


def _describe(found: Any, what: str) -> list[str]:
    rows = found.limit(MAX_EXAMPLES + 1).fetchall()
    more = " (and more)" if len(rows) > MAX_EXAMPLES else ""
    return [f"{topic}/{p}/{o} {what}: {where}{more}." for topic, p, o, where in rows[:MAX_EXAMPLES]]


def audit_stream(stream: StreamSpec, lakehouse: Any, kafka: RecordFinder) -> Audit:
    """Runs all three proofs on one stream's tables. Consistent beside a live writer: see the order of the reads."""
    # The checkpoint first, then the main table, then the others, which commit before it: what the checkpoint has,
    # the main table has; what the main table has, the others have.
    committed = read_checkpoint_batch(lakehouse.checkpoint_uri(stream.main_table.name))
    events, quarantined, deduplicated = (lakehouse.delta_table(table.name) for table in stream.tables)
    entries = read_all_entries(events, lakehouse.delta_table("platform.ledger"))
    newest = max((entry.batch_id for entry in entries if entry.txn_app_id == entries[-1].txn_app_id), default=-1)
    losses = Losses(_read_rows(lakehouse, "platform.lost_ranges"))
    now_held = [e for e in entries if losses.name_of(e.topic, e.arrival_micros) == losses.name_of(e.topic, math.inf)]
    entries = losses.rename(entries)
    holes = losses.find_holes(entries)
    breaches = find_ledger_breaches(entries, holes)
    if newest < committed:
        breaches.append(f"The checkpoint has batch {committed}, the table's newest batch is {newest}.")
    outcomes = {"accepted": events, "quarantined": quarantined, "deduplicated": deduplicated}
    datasets = {name: table.to_pyarrow_dataset() for name, table in outcomes.items()}
    breaches += find_row_breaches(entries, datasets, holes, losses)
    breaches += find_gap_breaches(now_held, kafka)
    totals = {name: sum(getattr(entry, name) for entry in entries) for name in ("rows_in", *outcomes)}
    totals["offsets_without_record"] = sum(end - start for entry in entries for start, end in entry.gaps)
    totals["batches"] = len({(entry.txn_app_id, entry.batch_id) for entry in entries})
    totals["acknowledged_as_lost"] = sum(hole.high - hole.low for hole in holes)
    return Audit(tuple(breaches), totals, losses.describe())


def _read_rows(lakehouse: Any, table: str) -> list[dict[str, Any]]:
    """All rows of a table; none of one that an older version did not have."""
    from deltalake.exceptions import TableNotFoundError

    try:
        found: list[dict[str, Any]] = lakehouse.delta_table(table).to_pyarrow_table().to_pylist()
    except TableNotFoundError:
        return []
    return found


def _build_check(stream: StreamSpec) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=list(stream.main_table.asset_path),
        name="ledger",
        description="Every Kafka offset is in exactly one table or a proved gap; nothing lost, nothing doubled.",
        required_resource_keys={"lakehouse", "kafka"},
    )
    def ledger(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        from deltalake.exceptions import TableNotFoundError

        try:
            audit = audit_stream(stream, context.resources.lakehouse, context.resources.kafka)
        except TableNotFoundError:
            return dg.AssetCheckResult(passed=True, description="The stream has not run yet: nothing is accounted for.")
        totals = {f"ledger/{name}": dg.MetadataValue.int(value) for name, value in audit.totals.items()}
        if audit.breaches:
            return dg.AssetCheckResult(passed=False, description="\n".join(audit.breaches), metadata=totals)
        account = ", ".join(f"{audit.totals[name]:,} {name}" for name in ("accepted", "quarantined", "deduplicated"))
        said = f"Lost 0, doubled 0: {audit.totals['rows_in']:,} records in = {account}."
        if audit.acknowledged:
            said += f" Acknowledged as lost, and not in this sum: {'; '.join(audit.acknowledged)}."
        return dg.AssetCheckResult(passed=True, description=said, metadata=totals)

    return ledger
