"""A table's rows and keys as the records of its topic: as `derive.kafka_publisher` has Spark write them.

A key that differed in one byte would be another key: a compacted topic would keep the old row for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from platform_assets.errors import SettingError
from platform_assets.publishing.transactional_sender import OutRecord
from platform_assets.streaming.derive.published_values import PublishedValues
from platform_assets.streaming.formats.json_writing import open_json_writer
from platform_assets.streaming.formats.reader import SchemaError
from platform_assets.streaming.formats.table_shape import read_table_shape

if TYPE_CHECKING:
    import pyarrow as pa

    from platform_assets.streaming.formats.registered_schema import SchemaTarget
    from platform_assets.streaming.stream_spec import TableStream


class RecordWriter:
    """Writes what one stream publishes. `target` None: as JSON, without a schema."""

    def __init__(self, stream: TableStream, target: SchemaTarget | None) -> None:
        """Contacts nobody. Raises `SettingError` for a table that the format cannot be written of."""
        table = stream.main_table
        columns = {column.name: column for column in table.columns}
        try:
            key = read_table_shape((replace(table, columns=tuple(columns[name] for name in table.key)),))
            value = read_table_shape((table,))
        except SchemaError as error:
            raise SettingError(
                f"The topic {stream.publish_topic} cannot be published by transactions: {error}. Rename what is named, "
                "or unset HEADRACE_PUBLISH_TRANSACTIONAL."
            ) from None
        self._write_key = open_json_writer(key, _write_time)
        self._write_value = open_json_writer(value, _write_time)
        self._values = None if target is None else PublishedValues(stream, target)

    def write_rows(self, batches: Iterable[pa.RecordBatch]) -> Iterator[OutRecord]:
        """A record of each row. Raises what `PublishedValues.open` does."""
        framed = None if self._values is None else self._values.open()
        for batch in batches:
            rows = batch.to_pylist(maps_as_pydicts="strict")
            values = [self._write_value(row) for row in rows] if framed is None else framed.write(rows)
            yield from zip(map(self._write_key, rows), values, strict=True)

    def write_tombstones(self, batches: Iterable[pa.RecordBatch]) -> Iterator[OutRecord]:
        """A tombstone of each key."""
        for batch in batches:
            for row in batch.to_pylist():
                yield self._write_key(row), None


def _write_time(value: datetime | None) -> str | None:
    if value is None:
        return None
    return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
