"""Which topics a stream over Kafka has read, and the rows of these in a table that such streams share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from platform_assets.checks.ledger_entries import Entry
from platform_assets.checks.ledger_proof import Proof

if TYPE_CHECKING:
    from pyarrow.dataset import Dataset


def find_topics(entries: Sequence[Entry], proof: Proof | None) -> frozenset[str]:
    """The topics that the stream has ever read. A proof numbers those of one name (`Losses.numbered`)."""
    proved = (topic.partition(" #")[0] for topic, _, _ in proof.until) if proof else ()
    return frozenset((*(entry.topic for entry in entries), *proved))


def count_rows(rows: Dataset, topics: frozenset[str]) -> int:
    """How many rows of a table that streams share are of these topics."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from platform_assets.delta_reader import read_portions

    known = pa.array(sorted(topics), pa.string())
    portions = read_portions(rows, ["topic"])
    return sum(pc.sum(pc.is_in(portion["topic"], value_set=known)).as_py() or 0 for portion in portions)
