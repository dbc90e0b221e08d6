"""The consistency checks run beside streams: what they take is bounded."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from platform_assets.checks.report_consistency import find_inconsistencies
from platform_assets.reports.daily_report import ReportCommit
from platform_assets.reports.days import DayRange
from platform_assets.reports.product_affinity import PRODUCT_AFFINITY_TABLE
from platform_assets.streaming.delta_tables import build_arrow_schema

NOON = datetime(2026, 2, 28, 12, tzinfo=UTC)
USERS, PRODUCTS, PURCHASES = 20_000, 100, 400_000


def test_baskets_of_a_busy_day_are_recomputed_in_a_gigabyte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chance, connect = random.Random(1), duckdb.connect
    events = {
        "event_type": ["purchase"] * PURCHASES,
        "event_time": pa.array([NOON] * PURCHASES, pa.timestamp("us", "UTC")),
        "event_date": [NOON.date()] * PURCHASES,
        "user_id": [f"user-{chance.randrange(USERS)}" for _ in range(PURCHASES)],
        "product_id": [f"product-{chance.randrange(PRODUCTS)}" for _ in range(PURCHASES)],
        "device_type": ["mobile"] * PURCHASES,
        "revenue": [1.0] * PURCHASES,
    }
    write_deltalake(tmp_path / "events", pa.table(events))
    write_deltalake(tmp_path / "report", build_arrow_schema(PRODUCT_AFFINITY_TABLE).empty_table())
    limits = {"memory_limit": "1GB", "temp_directory": ""}  # what needs more fails, instead of going to disk
    monkeypatch.setattr(duckdb, "connect", lambda config: connect(config=config | limits))

    differing = find_inconsistencies(
        DeltaTable(tmp_path / "report"),
        {"silver.events": DeltaTable(tmp_path / "events")},
        PRODUCT_AFFINITY_TABLE,
        ReportCommit(DayRange(NOON.date(), NOON.date()), {"silver.events": 0}),
    )

    assert {row["breach"] for row in differing} == {"in its inputs only"}
    assert len(differing) == PRODUCTS * (PRODUCTS - 1)
