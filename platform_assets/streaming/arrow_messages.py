"""Tables as bytes, which Spark's tasks send to the driver."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.ipc

_COMPRESSION = "zstd"


def pack(tables: Sequence[pa.Table]) -> bytes:
    """Tables of equal columns as one compressed message; empty for none."""
    if not tables:
        return b""
    message = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=_COMPRESSION, unify_dictionaries=True)
    with pa.ipc.new_stream(message, tables[0].schema, options=options) as stream:
        stream.write_table(pa.concat_tables(tables).combine_chunks())
    return bytes(message.getvalue())


def unpack(message: bytes) -> pa.Table | None:
    """The opposite of `pack`; None for no table."""
    return pa.ipc.open_stream(message).read_all() if message else None
