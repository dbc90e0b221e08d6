"""A topic whose values are compressed has the rows of the same topic without; what is refused keeps its raw bytes."""

from __future__ import annotations

import dataclasses
import json
import secrets
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.errors import TopicSpecError
from platform_assets.streaming.compression import (
    COMPRESSIONS,
    Compression,
    NotDecompressibleError,
    TooLargeError,
    decompress,
    decompress_part,
)
from platform_assets.streaming.event_rules import EventRules
from platform_assets.streaming.formats.registered_schema import SchemaSource
from platform_assets.streaming.ingest.record_parser import parse_batch
from platform_assets.streaming.topic_spec import Topic
from tests import access_log, order_lists, orders
from tests.unit.test_record_lists import MICROS, ORDER, as_kafka_batch
from tests.unit.test_registry_values import TOPIC as REGISTRY_TOPIC
from tests.unit.test_registry_values import Schemas, order, schema_of

CODECS = pytest.mark.parametrize("codec", COMPRESSIONS)
_LINE = b'10.0.0.1 - - [01/Mar/2026:12:00:00 +0000] "GET / HTTP/1.1" 200 10'
_SCHEMAS = Schemas((schema_of(),))
# For each kind of values, some that are accepted, refused, and neither.
VALUES: dict[str, tuple[Topic, list[bytes]]] = {
    "json": (orders.TOPIC, [json.dumps(ORDER).encode(), b"{}", b"no JSON", json.dumps({**ORDER, "x": 1}).encode()]),
    "lists": (order_lists.TOPIC, [json.dumps([ORDER, {**ORDER, "line": 0}]).encode(), b"[]", b"[{}]", b"7"]),
    "lines": (access_log.TOPIC, [_LINE, b"", b"no request"]),
    "registry": (REGISTRY_TOPIC, [_SCHEMAS.write(0, order(1)), b"\0\0\0\0\x09", _SCHEMAS.write(0, order(2))[:-2]]),
}  # fmt: skip


def compress(value: bytes, codec: str) -> bytes:
    packed: bytes = pa.compress(value, codec=codec, asbytes=True)
    return packed


def parse(topic: Topic, values: list[bytes | None], max_bytes: int = 4_000) -> list[dict[str, Any]]:
    batch = as_kafka_batch(values, [(row % 3, row) for row in range(len(values))])
    return parse_batch(batch, topic, MICROS, max_bytes, EventRules(), SchemaSource(_SCHEMAS)).to_pylist()


@pytest.mark.parametrize("kind", VALUES)
@given(data=st.data())
def test_rows_are_those_of_plain_values(kind: str, data: st.DataObject) -> None:
    topic, some = VALUES[kind]
    codec = data.draw(st.sampled_from(COMPRESSIONS))
    values = data.draw(st.lists(st.none() | st.sampled_from(some), min_size=1, max_size=8))
    packed = [None if value is None else compress(value, codec) for value in values]
    expected = parse(topic, values)
    for row in (row for row in expected if row["_reason"] is not None):
        row["_value"] = packed[row["kafka_offset"]]
    assert parse(dataclasses.replace(topic, compression=codec), packed) == expected


@CODECS
@given(st.binary(max_size=200))
def test_whatever_the_bytes_they_are_rows(codec: Compression, value: bytes) -> None:
    (row,) = parse(dataclasses.replace(orders.TOPIC, compression=codec), [value])
    assert row["_value"] == value and row["_reason"] is not None


@CODECS
def test_what_a_codec_has_written_is_read_and_nothing_else(codec: Compression) -> None:
    text = json.dumps([{"a": n} for n in range(200)]).encode()
    packed = compress(text, codec)
    assert decompress(packed, codec, len(text)) == text
    with pytest.raises(TooLargeError):
        decompress(packed, codec, len(text) - 1)
    for broken in (b"", packed[:-1], packed[1:], packed + b"x", text, b"\xff" * 20):
        with pytest.raises(NotDecompressibleError):
            decompress(broken, codec, 10_000)


@CODECS
def test_a_small_value_that_is_a_large_one_is_oversized_and_not_unpacked(codec: Compression) -> None:
    packed = compress(bytes(50_000_000), codec)
    topic = dataclasses.replace(orders.TOPIC, compression=codec)
    before = pa.total_allocated_bytes()
    (row,) = parse(topic, [packed], max_bytes=3_000_000)
    assert (row["_reason"], row["_value"]) == ("oversized", packed)
    assert pa.total_allocated_bytes() - before < 10_000_000 and "at most 3000000" in row["_detail"]
    (row,) = parse(topic, [b"x" * 101], max_bytes=100)
    assert row["_detail"] == "101 bytes, at most 100 are accepted"


@CODECS
def test_what_stands_before_the_broken_place_is_read(codec: Compression) -> None:
    text = json.dumps([secrets.token_hex(16) for _ in range(300)]).encode()
    packed = compress(text, codec)
    assert decompress_part(packed, codec, len(text)) == text
    if codec != "snappy":
        assert decompress_part(packed, codec, 100) == text[:100]
        assert (decompress_part(packed + b"x", codec, 10**6) or b"").startswith(text[:1_000])
    if codec == "gzip":
        assert (decompress_part(packed[:-1], codec, 10**6) or b"").startswith(text[:5_000])
    assert decompress_part(b"no such bytes", codec, 10**6) is None


def test_a_codec_that_there_is_not_is_named() -> None:
    with pytest.raises(TopicSpecError, match="one of gzip, zstd, lz4, snappy"):
        dataclasses.replace(orders.TOPIC, compression="brotli")  # type: ignore[arg-type]
