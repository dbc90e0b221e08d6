"""Two hours of a shop for the tests of replays, and what must hold of a table that was replayed."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import dagster as dg

from platform_assets.checks.hop_ledger import build_hop_ledger_checks
from platform_assets.streaming.stream_spec import select_derived
from platform_assets.streams import load_streams
from resources.lakehouse import LakehouseResource
from tests.integration.streams_under_test import StreamsUnderTest
from tests.spark.test_parity import run_check

AT = datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC)
STREAMS = {stream.name: stream for stream in select_derived(load_streams())}
_TABLES = {stream.name: stream.main_table for stream in load_streams()}


def build_events(minutes: range) -> list[bytes]:
    """A view and, each third minute, a purchase of one of five users; a pause of an hour after each fifty minutes."""

    def build(minute: int, kind: str) -> bytes:
        at = AT + timedelta(minutes=minute + minute // 50 * 60, seconds=20 * (kind == "purchase"))
        event = {
            "event_id": f"{kind}{minute}", "event_type": kind, "timestamp": at.isoformat(), "product_id": "p",
            "user_id": f"u{minute % 5}", "category": ["toys", None][minute % 2], "revenue": 10.0 * (kind == "purchase"),
        }  # fmt: skip
        return json.dumps(event).encode()

    return [build(m, kind) for m in minutes for kind in ("page_view", "purchase") if kind == "page_view" or m % 3 == 0]


def late(minute: int) -> bytes:
    event = json.loads(build_events(range(minute, minute + 1))[0])
    return json.dumps({**event, "event_id": f"late{minute}", "user_id": "u9"}).encode()


def read_two_hours(streams: StreamsUnderTest, name: str) -> None:
    """Reads in two bounded runs of the stream, the second of events that come late."""
    for records in (build_events(range(100)), [late(minute) for minute in range(3, 6)]):
        streams.send(records)
        streams.drain("events", name)


def rows(streams: StreamsUnderTest, name: str) -> list[str]:
    found = streams.rows(_TABLES[name].name)
    return sorted(json.dumps(row, default=str) for row in found)


def prove_sound(streams: StreamsUnderTest, name: str) -> None:
    """The table equals its twin, and its account has no hole."""
    verdict = run_check(streams.session, streams.context.lakehouse_root, name)
    assert verdict.passed, verdict.description
    (check,) = build_hop_ledger_checks([STREAMS[name]])
    resources = {"lakehouse": LakehouseResource(root=streams.context.lakehouse_root)}
    account = check(dg.build_asset_check_context(resources=resources))
    assert isinstance(account, dg.AssetCheckResult) and account.passed, account
