"""The consistency checks run while streams run: what they take is bounded."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
from deltalake import write_deltalake

from platform_assets.reports.product_affinity import PRODUCT_AFFINITY_TABLE
from platform_assets.streaming.delta.delta_tables import build_arrow_schema

NOON = datetime(2026, 2, 28, 12, tzinfo=UTC)
USERS, PRODUCTS, PURCHASES = 20_000, 100, 400_000

# In a process of its own, whose peak is that of the check. By its status: `getrusage` counts the process that started
# it too, and a worker that has run a thousand tests is larger than a gigabyte.
_PROGRAM = f"""
import json, re, sys
from datetime import date
from pathlib import Path
from deltalake import DeltaTable
from platform_assets.checks.report_consistency import find_inconsistencies
from platform_assets.reports.product_affinity import PRODUCT_AFFINITY_TABLE as SPEC
sources = {{"silver.events": DeltaTable(sys.argv[2])}}
found = find_inconsistencies(DeltaTable(sys.argv[1]), sources, SPEC, [date.fromisoformat("{NOON.date()}")])
(peak_kib,) = re.findall(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
print(json.dumps([found.count, int(peak_kib)]))
"""


def test_baskets_of_a_busy_day_are_recomputed_in_a_gigabyte(tmp_path: Path) -> None:
    chance = random.Random(1)
    events = {
        "event_type": ["purchase"] * PURCHASES,
        "event_time": pa.array([NOON] * PURCHASES, pa.timestamp("us", "UTC")),
        "event_date": [NOON.date()] * PURCHASES,
        "user_id": [f"user-{chance.randrange(USERS)}" for _ in range(PURCHASES)],
        "product_id": [f"product-{chance.randrange(PRODUCTS)}" for _ in range(PURCHASES)],
        "device_type": ["mobile"] * PURCHASES,
        "is_anonymous": [False] * PURCHASES,
        "revenue": [1.0] * PURCHASES,
    }
    write_deltalake(tmp_path / "events", pa.table(events), partition_by=["event_date"])
    write_deltalake(
        tmp_path / "report", build_arrow_schema(PRODUCT_AFFINITY_TABLE).empty_table(), partition_by=["report_date"]
    )
    command = [sys.executable, "-c", _PROGRAM, str(tmp_path / "report"), str(tmp_path / "events")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    differing, peak_kib = json.loads(done.stdout)
    assert differing == PRODUCTS * (PRODUCTS - 1)
    assert peak_kib < 1024 * 1024
