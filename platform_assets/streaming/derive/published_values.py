"""Values of a published topic that are written by a schema of a registry, in Confluent's frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pyarrow as pa

from platform_assets.errors import SettingError
from platform_assets.streaming.formats.frame import frame
from platform_assets.streaming.formats.reader import SchemaError
from platform_assets.streaming.formats.registered_schema import RegisterSchema, SchemaTarget
from platform_assets.streaming.formats.table_shape import read_table_shape
from platform_assets.streaming.formats.writers import WrittenSchema, open_writer, write_schema
from platform_assets.streaming.stream_spec import TableStream

_REMEMBERED_IDS = 256


@dataclass(frozen=True)
class FramedWriter:
    """Writes rows by a schema that is registered. May be sent to Spark's tasks."""

    schema_id: int
    schema: WrittenSchema

    def write(self, rows: Iterable[Mapping[str, Any]]) -> list[bytes]:
        """The values of rows, which are dicts of plain Python values; a column that a row does not have is null."""
        write_row = open_writer(self.schema)
        return [frame(self.schema_id, write_row(row)) for row in rows]

    def write_batches(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Batches of (key, row as a struct) as batches of (key, value). Called in a task."""
        for batch in batches:
            rows = pa.RecordBatch.from_struct_array(batch.column("row")).to_pylist(maps_as_pydicts="strict")
            yield pa.record_batch([batch.column("key"), pa.array(self.write(rows), pa.binary())], ["key", "value"])


class PublishedValues:
    """The values of one stream's topic. The schema is that of its table, and of those of `published_state` with it."""

    def __init__(self, stream: TableStream, target: SchemaTarget) -> None:
        """Contacts nobody. Raises `SettingError` for a table that the format cannot be written of."""
        others = () if stream.published_state is None else stream.published_state.others
        self._target = target
        self._subject = f"{stream.publish_topic}-value"
        try:
            self._schema = write_schema(read_table_shape((stream.main_table, *others)), target.format)
        except SchemaError as error:
            raise SettingError(
                f"The topic {stream.publish_topic} cannot be published as HEADRACE_PUBLISH_FORMAT says: {error}. "
                "Rename what is named, or publish as json."
            ) from None

    def open(self) -> FramedWriter:
        """What writes the values. Registers the schema, once a process.

        Raises `SchemaNotAcceptedError`, with the registry's words, `RegistryUnavailableError` and
        `RegistryRefusedError`. Nothing was written then.
        """
        return FramedWriter(_register(self._target.register, self._subject, self._schema), self._schema)


@lru_cache(maxsize=_REMEMBERED_IDS)
def _register(register: RegisterSchema, subject: str, schema: WrittenSchema) -> int:
    return register(subject, schema.format, schema.text)
