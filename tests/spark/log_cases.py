"""Generated lines of web servers and sshd, as rows of silver.access_logs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from platform_assets.streaming.delta.delta_tables import build_arrow_schema
from platform_assets.topics.access_logs import ACCESS_LOGS, find_network

LogLine = dict[str, Any]

MICROSECOND, SECOND, MINUTE = timedelta(microseconds=1), timedelta(seconds=1), timedelta(minutes=1)
# At the borders of minutes and days, and inside.
STARTS = [
    datetime(2024, 2, 29, 12, tzinfo=UTC),
    datetime(2024, 2, 29, 12, 0, 0, 123456, tzinfo=UTC),
    datetime(2024, 2, 29, 12, 1, tzinfo=UTC) - MICROSECOND,
    datetime(2024, 2, 29, 23, 52, 30, tzinfo=UTC),
    datetime(2024, 3, 1, tzinfo=UTC),
]
PAUSES = [timedelta(0), MICROSECOND, SECOND, 7 * SECOND, MINUTE, 2 * MINUTE, 10 * MINUTE, 60 * MINUTE]
LARGEST = 2**63 - 1
ADDRESSES = ["203.0.113.1", "203.0.113.2", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "client.example"]


def request(
    event_time: datetime,
    address: str = "203.0.113.1",
    path: str | None = "/",
    status: int = 200,
    bytes_sent: int | None = 100,
    host: str | None = "h1",
) -> LogLine:
    return {
        "event_time": event_time, "service": "web", "host": host, "address": address, "path": path, "status": status,
        "bytes_sent": bytes_sent,
    }  # fmt: skip


def login(
    event_time: datetime,
    address: str | None = "203.0.113.1",
    outcome: str | None = "failed",
    user_name: str = "root",
    auth_method: str | None = "password",
    repeated: int | None = None,
    host: str = "h1",
) -> LogLine:
    return {
        "event_time": event_time, "service": "sshd", "host": host, "address": address, "outcome": outcome,
        "user_name": user_name, "auth_method": auth_method, "repeated": repeated,
    }  # fmt: skip


@st.composite
def series(draw: st.DrawFn) -> list[LogLine]:
    """Lines of one address, a pause at the border of a window between any two, in any order of arrival."""
    time, address = draw(st.sampled_from(STARTS)), draw(st.sampled_from(ADDRESSES))
    found = []
    for _ in range(draw(st.integers(1, 9))):
        if draw(st.booleans()):
            line = request(
                time, address, draw(st.sampled_from(["/", "/a", "/b.php", "/ü", None])),
                draw(st.sampled_from([200, 304, 399, 400, 404, 499, 500, 503, 599])),
                draw(st.sampled_from([0, 1, 512, LARGEST, None])), draw(st.sampled_from(["h1", "h2", None])),
            )  # fmt: skip
        else:
            line = login(
                time, draw(st.sampled_from([address, address, None])),
                draw(st.sampled_from(["failed", "failed", "accepted", "closed", "unknown_user", None])),
                draw(st.sampled_from(["root", "admin"])), draw(st.sampled_from(["password", "publickey", None])),
                draw(st.sampled_from([None, None, 5])),
            )  # fmt: skip
        found.append(line)
        time += draw(st.sampled_from(PAUSES))
    return draw(st.permutations(found))


def logs(least: int = 25) -> st.SearchStrategy[list[LogLine]]:
    """Many series in one table: one Spark job then tries dozens of cases."""
    return st.lists(series(), min_size=least, max_size=least + 15).map(lambda found: [e for own in found for e in own])


def logs_table(lines: Sequence[LogLine], first_offset: int = 0) -> pa.Table:
    """Lines as rows of silver.access_logs; the position is the Kafka offset."""
    rows = [
        {
            **each, "network": None if each["address"] is None else find_network(each["address"]), "topic": "t",
            "kafka_partition": number % 3, "kafka_offset": number, "kafka_timestamp": each["event_time"],
            "ingested_at": each["event_time"], "event_date": each["event_time"].astimezone(UTC).date(),
        }
        for number, each in enumerate(lines, first_offset)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, build_arrow_schema(ACCESS_LOGS))
