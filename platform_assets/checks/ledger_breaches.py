"""The proofs of the ledger: what is wrong with the batches' accounts, with the tables' rows, with gaps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from platform_assets.checks.acknowledged_losses import Hole, Losses
from platform_assets.checks.ledger_entries import Entry, place

# A breach is shown by its first examples: a table of a million lost offsets helps nobody.
MAX_EXAMPLES = 5
# The column that has a record's time of arrival, by what became of it.
ARRIVAL_COLUMNS = {"accepted": "ingested_at", "quarantined": "quarantined_at", "deduplicated": "deduplicated_at"}


class RecordFinder(Protocol):
    """What the check needs of Kafka (`resources.kafka.KafkaResource`)."""

    def find_records(self, topic: str, ranges: Sequence[tuple[int, int, int]]) -> list[tuple[int, int]]:
        """The (partition, offset) of every committed record in ranges of (partition, from, until)."""
        ...


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
    names = {outcome: (losses or Losses(())).sql_name(ARRIVAL_COLUMNS[outcome]) for outcome in tables}
    union = " union all ".join(
        f"select '{o}' as place, {names[o]} topic, kafka_partition p, kafka_offset o from {o}" for o in tables
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
