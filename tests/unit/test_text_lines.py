"""Lines of text by a pattern: typed by its groups; what does not match is quarantined like any malformed record."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.streaming.event_rules import EventRules
from platform_assets.streaming.ingest.record_parser import parse_batch
from tests.access_log import TOPIC

ARRIVAL = datetime(2026, 3, 1, 12, tzinfo=UTC)
LINE = '10.0.0.1 - ann [01/Mar/2026:12:30:00 +0100] "GET /cart?a=1 HTTP/1.1" 200 512 0.25 true'


def parse(*lines: bytes) -> list[dict[str, Any]]:
    batch = pa.record_batch(
        {
            "key": pa.nulls(len(lines), pa.binary()),
            "value": pa.array(lines, pa.binary()),
            "partition": pa.array([0] * len(lines), pa.int32()),
            "offset": pa.array(range(len(lines)), pa.int64()),
            "timestamp": pa.array([ARRIVAL] * len(lines), pa.timestamp("us", tz="UTC")),
        }
    )
    micros = int(ARRIVAL.timestamp()) * 1_000_000
    rows: list[dict[str, Any]] = parse_batch(batch, TOPIC, micros, 10_000, EventRules()).to_pylist()
    return rows


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_line_becomes_a_row(end: str) -> None:
    (row,) = parse(f"{LINE}{end}".encode())
    assert row["_reason"] is None, row["_detail"]
    assert (row["client"], row["method"], row["path"]) == ("10.0.0.1", "GET", "/cart?a=1")
    assert (row["status"], row["size"], row["seconds"], row["is_cached"]) == (200, 512, 0.25, True)
    assert row["event_time"] == datetime(2026, 3, 1, 11, 30, tzinfo=UTC)


def test_a_group_that_takes_no_part_is_null() -> None:
    (row,) = parse(LINE.replace(" 512 0.25 true", " -").encode())
    assert (row["_reason"], row["size"], row["seconds"], row["is_cached"]) == (None, None, None, None)


@pytest.mark.parametrize(
    ("line", "reason", "said"),
    [
        (b"", "no_match", "the pattern does not match the line ''"),
        (b"\xff" + LINE.encode(), "no_match", "not UTF-8"),
        (LINE.replace("GET", "get").encode(), "no_match", "the pattern does not match"),
        (f"{LINE}\n{LINE}".encode(), "no_match", "the pattern does not match"),
        (LINE.replace("200", "OK").encode(), "wrong_type", "status is a JSON string, not a number"),
        (LINE.replace("512", "1.5").encode(), "wrong_type", "size is no 64-bit integer: 1.5"),
        (LINE.replace("0.25", "[]").encode(), "wrong_type", "seconds is a JSON string, not a number"),
        (LINE.replace("0.25", "null").encode(), "wrong_type", "seconds is a JSON string, not a number"),
        (LINE.replace("512", "0512").encode(), "wrong_type", "size is a JSON string, not a number"),
        (LINE.replace("0.25", "NaN").encode(), "wrong_type", "seconds is a JSON string, not a number"),
        (LINE.replace("true", "maybe").encode(), "wrong_type", "is_cached is a JSON string, not a boolean"),
        (LINE.replace("200", "999").encode(), "bad_value", "`int` <= 599"),
        (LINE.replace("01/Mar", "31/Feb").encode(), "bad_timestamp", "not a time like %d/%b/%Y:%H:%M:%S %z"),
        (LINE.replace("2026", "1996").encode(), "bad_timestamp", "before the year 2000"),
    ],
)
def test_a_line_that_is_none_is_quarantined_with_its_reason(line: bytes, reason: str, said: str) -> None:
    (row,) = parse(line)
    assert (row["_reason"], row["_value"]) == (reason, line)
    assert said in row["_detail"]


@given(st.integers(100, 599), st.integers(0, 2**63 - 1), st.text(st.characters(categories=["L", "N", "P"]), min_size=1))
def test_what_was_put_into_a_line_comes_out_of_it(status: int, size: int, path: str) -> None:
    line = f'h - - [01/Mar/2026:10:00:00 +0000] "POST /{path} HTTP/2" {status} {size}'.encode()
    (row,) = parse(line)
    assert (row["_reason"], row["path"], row["status"], row["size"]) == (None, f"/{path}", status, size)
