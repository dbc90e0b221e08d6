"""Which topics a stream over Kafka has read, and the rows of these in a table that such streams share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from platform_assets.checks.ledger_entries import Entry
from platform_assets.checks.ledger_proof import Proof

if TYPE_CHECKING:
    import pyarrow as pa


def find_topics(entries: Sequence[Entry], proof: Proof | None) -> frozenset[str]:
    """The topics that the stream has ever read. A proof numbers those of one name (`Losses.numbered`)."""
    proved = (topic.partition(" #")[0] for topic, _, _ in proof.until) if proof else ()
    return frozenset((*(entry.topic for entry in entries), *proved))


def select_topics(rows: Any, topics: frozenset[str]) -> pa.Table:
    """The rows of these topics, of an Arrow dataset or table with coordinates."""
    import pyarrow as pa
    import pyarrow.compute as pc

    table = rows if isinstance(rows, pa.Table) else rows.to_table()
    return table.filter(pc.is_in(table["topic"].cast(pa.string()), value_set=pa.array(sorted(topics), pa.string())))
