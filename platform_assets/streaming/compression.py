"""Values that their sender compressed, each by itself: unpacked within a limit, whatever the bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

if TYPE_CHECKING:
    import pyarrow as pa

Compression: TypeAlias = Literal["gzip", "zstd", "lz4", "snappy"]
"""gzip (RFC 1952), zstd (RFC 8878) and lz4 (its frame format) say where they end. snappy is the raw format, which says
how long it is: what is written in chunks (`sNaPpY`, or Java's Xerial) is another one."""
COMPRESSIONS: tuple[Compression, ...] = get_args(Compression)

# What is read together is lost together, where a value is broken.
_PART_BYTES = 256
# The length of a snappy value is a varint of 32 bits.
_LENGTH_BYTES = 5


class NotDecompressibleError(Exception):
    """Bytes are not what a codec writes: cut, changed, followed by others, or of another codec. Says why."""


class TooLargeError(Exception):
    """A value has more bytes than are accepted, when it is decompressed; they were not read. Says how many."""


def compress(value: bytes, codec: Compression) -> bytes:
    """The value as a codec writes it: the same bytes for the same value, in this version of Arrow."""
    import pyarrow as pa

    packed: bytes = pa.compress(value, codec=codec, asbytes=True)
    return packed


def decompress(value: bytes, codec: Compression, max_bytes: int) -> bytes:
    """The bytes that were compressed. Memory: those, and at most one more than `max_bytes`.

    Raises `NotDecompressibleError`, and `TooLargeError` for more than `max_bytes`.
    """
    import pyarrow as pa

    if not value:
        raise NotDecompressibleError("no bytes, where a compressed value has some")
    try:
        if codec == "snappy":
            return _decompress_whole(value, max_bytes)
        with pa.CompressedInputStream(pa.BufferReader(value), codec) as stream:
            found = bytes(stream.read(max_bytes + 1))
    except (OSError, pa.ArrowInvalid) as error:
        raise NotDecompressibleError(str(error)) from None
    if len(found) > max_bytes:
        raise TooLargeError(f"more than {max_bytes} bytes when it is decompressed")
    return found


def decompress_part(value: bytes, codec: Compression, most_bytes: int) -> bytes | None:
    """What can be read of a value that may be cut, changed or followed by others; None where that is nothing.

    No more than `most_bytes`, from the start. A snappy value is read whole or not at all.
    """
    import pyarrow as pa

    parts: list[bytes] = []
    try:
        if codec == "snappy":
            return _decompress_whole(value, most_bytes)
        with pa.CompressedInputStream(pa.BufferReader(value), codec) as stream:
            while most_bytes > 0 and (part := bytes(stream.read(min(_PART_BYTES, most_bytes)))):
                parts.append(part)
                most_bytes -= len(part)
    except (OSError, pa.ArrowInvalid, NotDecompressibleError, TooLargeError):
        return b"".join(parts) or None  # what stands before the place where it is broken
    return b"".join(parts)


def _decompress_whole(value: bytes, most_bytes: int) -> bytes:
    import pyarrow as pa

    if (size := _read_length(value)) > most_bytes:
        raise TooLargeError(f"{size} bytes when it is decompressed")
    found: pa.Buffer = pa.Codec("snappy").decompress(value, size)
    return found.to_pybytes()


def _read_length(value: bytes) -> int:
    length = 0
    for place, byte in enumerate(value[:_LENGTH_BYTES]):
        length |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return length
    raise NotDecompressibleError("its length does not end")
