"""Confluent's message index: which type of a schema a Protobuf value has, read strictly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.streaming.formats.message_index import split_index, write_index
from platform_assets.streaming.formats.reader import UndecodableError


@given(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=32).map(tuple), st.binary(max_size=5))
def test_an_index_is_read_as_it_is_written(index: tuple[int, ...], body: bytes) -> None:
    assert split_index(write_index(index) + body) == (index, body)


@pytest.mark.parametrize(
    ("written", "index"),
    [("00", (0,)), ("0202", (1,)), ("040000", (0, 0)), ("0200", (0,)), ("02ac02", (150,)), ("0604 0206", (2, 1, 3))],
)
def test_indexes_as_serializers_write_them(written: str, index: tuple[int, ...]) -> None:
    assert split_index(bytes.fromhex(written) + b"\x08") == (index, b"\x08")


@pytest.mark.parametrize(
    "broken",
    [
        "", "02", "0400", "80", "ffffffffffffffffff", "01", "0201", "8000", "028000", "42" + "00" * 33,
        "fe" + "ff" * 3 + "0f" + "00" * 9,
    ],
)  # fmt: skip
def test_what_is_no_index_is_refused(broken: str) -> None:
    with pytest.raises(UndecodableError, match="the message index"):
        split_index(bytes.fromhex(broken))


@given(st.binary(max_size=20))
def test_any_bytes_are_an_index_or_are_refused(value: bytes) -> None:
    try:
        index, body = split_index(value)
    except UndecodableError:
        return
    assert index
    assert value.endswith(body)
    assert len(body) < len(value)
