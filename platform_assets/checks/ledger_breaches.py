"""The proofs of the ledger: what is wrong with the batches' accounts, with the tables' rows, with gaps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from platform_assets.checks.acknowledged_losses import Hole, Losses
from platform_assets.checks.ledger_entries import MAX_EXAMPLES, Entry, place
from platform_assets.checks.ledger_gaps import read_gaps
from resources.kafka_records import find_records

if TYPE_CHECKING:
    from resources.kafka import KafkaResource


def find_ledger_breaches(entries: Sequence[Entry], holes: Sequence[Hole] = ()) -> list[str]:
    """Holes (but `holes`) and overlaps between batches, and accounts that do not add up; one sentence each."""
    breaches = []
    known = set(holes)
    reached: dict[tuple[str, int], Entry] = {}
    for entry in sorted(entries, key=place):
        where = f"{entry.topic}/{entry.kafka_partition}"
        before = reached.get((entry.topic, entry.kafka_partition))
        is_known = before is not None and entry.from_offset < before.until_offset
        if is_known and entry.from_offset == entry.until_offset and not entry.rows_in:
            # A batch without an offset within a day's that are rolled up: nothing was read twice.
            continue
        hole = (
            None if before is None else Hole(entry.topic, entry.kafka_partition, before.until_offset, entry.from_offset)
        )
        if before is not None and entry.from_offset != before.until_offset and hole not in known:
            kind = "lost" if entry.from_offset > before.until_offset else "read twice"
            low, high = sorted((before.until_offset, entry.from_offset))
            batches = f"batch {before.batch_id} and {entry.first}"
            breaches.append(f"{where}: offsets {low} to {high - 1} were {kind} between {batches}.")
        reached[entry.topic, entry.kafka_partition] = entry
        outcomes = entry.accepted + entry.quarantined + entry.deduplicated + entry.erased
        gap_length = sum(end - start for start, end in entry.gaps)
        length = entry.until_offset - entry.from_offset
        if entry.rows_in != outcomes or entry.rows_in + gap_length != length:
            breaches.append(
                f"{where}: batch {entry.batch_id} read {length} offsets but accounts for "
                f"{outcomes} rows and {gap_length} offsets without a record."
            )
    return breaches


def find_row_breaches(
    entries: Sequence[Entry],
    tables: Mapping[str, Any],
    holes: Sequence[Hole] = (),
    losses: Losses | None = None,
    requeued: Sequence[Mapping[str, Any]] = (),
    being_erased: Sequence[Mapping[str, Any]] = (),
    count_expired: Callable[[], int] = lambda: 0,
    is_list: bool = False,
) -> list[str]:
    """Offsets that are not in exactly one place, by the tables' own coordinates.

    `tables` maps each outcome (accepted, quarantined, deduplicated, erased) to its Arrow dataset or table with `topic`,
    `kafka_partition`, `kafka_offset` and the time of arrival. Rows at or after a partition's last committed offset are
    a batch in flight and not looked at, except in the accepted table, whose commit is the batch's end. Records of
    `requeued` (rows of `platform.requeued_records`) are in quarantine and in one more place. Records of `being_erased`
    (rows of `platform.erased_records`) are among the erased, and perhaps still where they were. `count_expired` returns
    how many rows a policy has removed from these versions of the tables. It is called last, because expiry is recorded
    after it is done. `is_list`: records hold lists, see `ListPlaces`.
    Takes a byte of memory for each offset that is counted at a time: see `Places`.
    """
    from platform_assets.checks.ledger_lists import ListPlaces
    from platform_assets.checks.ledger_places import Findings, Places

    kind = ListPlaces if is_list else Places
    shares = kind.count_shares(entries)
    found = Findings()
    for share in range(shares):
        places = kind(entries, losses or Losses(()), (share, shares))
        for entry in entries:
            for start, end in entry.gaps:
                places.add_range("gap", entry.topic, entry.kafka_partition, start, end)
        for hole in holes:
            places.add_range("gap", hole.topic, hole.kafka_partition, hole.low, hole.high)
        for outcome, rows in tables.items():
            places.add_rows(outcome, rows)
        places.discount(requeued, "requeued_at")
        places.discount(being_erased, "arrived_at", least=2)
        found.add(places.collect(tables))
    return places.tell(found, tables, count_expired())


def find_gap_breaches(entries: Sequence[Entry], kafka: KafkaResource) -> list[str]:
    """Records that a second read finds where the writer found none."""
    breaches = []
    for topic in sorted({entry.topic for entry in entries}):
        found = [place for ranges in read_gaps(entries, topic) for place in find_records(kafka, topic, ranges)]
        breaches += [
            f"{topic}/{p}/{o} has a record, but the stream recorded a gap there." for p, o in found[:MAX_EXAMPLES]
        ]
    return breaches
