"""Proves that a user is in no file of the lakehouse, by reading them all. Knows tables by nothing but their files."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from platform_assets.streaming.formats.registered_schema import SchemaSource
from platform_assets.streaming.register.named_users import find_suspects, judge_fields
from platform_assets.streaming.register.sought_names import Sought
from platform_assets.streaming.topic_spec import Topic
from resources.lakehouse import LakehouseResource

if TYPE_CHECKING:
    import pyarrow as pa

# A query's state is in files of RocksDB's own, packed: what it holds is said by its watermark, not read here.
_STATE = re.compile(r"^_checkpoints/.*/state/")


@dataclass(frozen=True)
class Proof:
    """What was read, and the files (paths below the root) in which the user still is."""

    files: int
    bytes: int
    state_files: int
    found: tuple[str, ...]


def search_files(
    lakehouse: LakehouseResource, user: str, topics: Sequence[Topic] = (), schemas: SchemaSource | None = None
) -> Proof:
    """Reads every file but those of the queries' state, one after the other: as long as a scan of all texts takes.

    A user is found as in the tables' records (`named_users`), in the texts of a Parquet file or in the bytes of
    another; JSON in it is read. So are other texts that have the same word: a user_id that is a word of the language
    can't be told from it. `topics` say in which fields users are named, and how values are packed; `schemas` wrote
    those of a registry.
    """
    sought = Sought.one(user, topics, schemas)
    paths = lakehouse.folder.list_files("")
    read = [path for path in paths if not _STATE.match(path)]
    total, found = 0, []
    for path in read:
        content = lakehouse.folder.read_file(path)
        if content is None:
            continue  # removed since the files were listed
        total += len(content)
        texts = _find_texts(content, sought) if path.endswith(".parquet") else iter([("", content)])
        if any(judge_fields([text], sought) for text in texts):
            found.append(path)
    return Proof(len(read), total, len(paths) - len(read), tuple(found))


def _find_texts(content: bytes, sought: Sought) -> Iterator[tuple[str, bytes]]:
    """The texts of a Parquet file, of all its columns, that may name the user, each with its column."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    # delta-rs writes the first two, Spark the others.
    texts = (pa.string_view(), pa.string(), pa.large_string())
    raw = (pa.binary_view(), pa.binary(), pa.large_binary())
    for batch in pq.ParquetFile(io.BytesIO(content)).iter_batches():
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            # A record's key is the user, by the topic's contract.
            field = "user_id" if name == "key" else name
            for part in _flatten(column):
                if part.type in texts + raw:
                    values, is_raw = part.cast(pa.binary()), part.type in raw
                    for value in values.filter(find_suspects(values, sought, field, is_raw=is_raw)).to_pylist():
                        yield field, value


def _flatten(column: pa.Array) -> Iterator[pa.Array]:
    """The columns that a nested one is made of, down to those that are not."""
    import pyarrow as pa

    if pa.types.is_map(column.type):
        parts = [column.keys, column.items]
    elif pa.types.is_struct(column.type) or pa.types.is_list(column.type):
        flat = column.flatten()
        parts = flat if isinstance(flat, list) else [flat]
    elif pa.types.is_dictionary(column.type):
        parts = [column.dictionary_decode()]
    else:
        yield column
        return
    for part in parts:
        yield from _flatten(part)
