"""Reads rows of the tables as the proofs count them: by topic, as it was named on their arrival, and partition."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from platform_assets.checks.acknowledged_losses import Losses
from platform_assets.checks.ledger_entries import ARRIVAL_COLUMNS

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

# Coordinates are short, and each portion costs some calls of numpy.
_ROWS_AT_A_TIME = 64 * 1024

Where = tuple[str, int]
"""A topic (under its name at that time) and a partition."""


class RowReader:
    """Reads rows where these losses were acknowledged."""

    def __init__(self, losses: Losses) -> None:
        self._losses = losses

    def read(
        self, place: str, rows: Any, names: Sequence[str] = ("kafka_offset",), row_filter: Any = None
    ) -> Iterator[tuple[Where, list[npt.NDArray[np.int64]]]]:
        """These columns of the rows, by topic and partition; a filter chooses among those of a dataset."""
        import pyarrow as pa
        import pyarrow.compute as pc

        arrival = ARRIVAL_COLUMNS[place]
        columns = ["topic", "kafka_partition", *names]
        columns += [arrival] if self._losses.has_logs_begun_again else []
        for batch in _read_batches(rows, columns, row_filter):
            partitions, *found = (batch.column(name).to_numpy() for name in ("kafka_partition", *names))
            texts = batch.column("topic").cast(pa.string())
            for topic in pc.unique(texts).to_pylist():
                is_topic = pc.equal(texts, topic).to_numpy(zero_copy_only=False)
                for partition in np.flatnonzero(np.bincount(partitions[is_topic])).tolist():
                    own = is_topic & (partitions == partition)
                    for name, is_named in self._split_logs(topic, partition, own, batch, arrival):
                        yield (name, partition), [column[is_named] for column in found]

    def _split_logs(
        self, topic: str, partition: int, rows: npt.NDArray[np.bool_], batch: pa.RecordBatch, arrival: str
    ) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
        """The rows (a mask) of one partition by the topic's name at the time of their arrival."""
        import pyarrow as pa

        times = self._losses.times_begun_again(topic, partition)
        if not times:
            yield topic, rows
            return
        numbers = np.searchsorted(times, batch.column(arrival).cast(pa.int64()).to_numpy(), side="right")
        for number in np.unique(numbers[rows]):
            yield self._losses.numbered(topic, int(number)), rows & (numbers == number)


def _read_batches(rows: Any, columns: Sequence[str], row_filter: Any) -> Iterator[pa.RecordBatch]:
    """These columns of an Arrow dataset or table; a table is in memory already, and is not filtered."""
    from platform_assets.delta_reader import read_portions

    if hasattr(rows, "select"):
        yield from rows.select(columns).to_batches()
    else:
        for portion in read_portions(rows, columns, row_filter, _ROWS_AT_A_TIME):
            yield from portion.to_batches()
