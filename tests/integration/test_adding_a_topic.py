"""docs/adding-a-topic.md, followed to the letter in a copy of the project, over a broker of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from deltalake import DeltaTable

from tests.copied_project import copy_project
from tests.short_lived_jvm import ENVIRONMENT

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/adding-a-topic.md").read_text()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project with the page's files."""
    copy = copy_project(tmp_path / "project")
    files = re.findall(r"`([\w/]+\.py)`:\n\n```python\n(.*?)```", PAGE, re.DOTALL)
    assert [path for path, _ in files] == [
        "platform_assets/topics/readings.py", "platform_assets/streams/readings_by_kind.py",
        "platform_assets/groups/meters.py", "send_readings.py",
    ]  # fmt: skip
    for path, text in files:
        (copy / path).write_text(text)
    return copy


def run(project: Path, *command: str) -> str:
    environment = {
        **os.environ, **ENVIRONMENT, "PYTHONPATH": str(project), "HEADRACE_GROUPS": "meters",
        "HEADRACE_HOME": str(project / "home"), "KAFKA_BOOTSTRAP_SERVERS": "", "HEADRACE_SPARK_HEAP_MIB": "768",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, *command], cwd=project, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_page_leads_to_checked_rows(project: Path) -> None:
    (commands,) = re.findall(r"```sh\nexport HEADRACE_GROUPS=meters\n(.*?)```", PAGE, re.DOTALL)
    outputs = {}
    for line in commands.splitlines():
        program, *rest = line.split()
        outputs[line] = run(project, *(rest if program == "python" else ["-m", "jobs.cli", *rest]))
    tables = {
        name: DeltaTable(str(project / "home/lakehouse" / name.replace(".", "/"))).to_pyarrow_table().to_pylist()
        for name in (
            "silver.readings", "silver.deduplicated_readings", "silver.quarantined_readings", "gold.readings_by_kind",
        )
    }  # fmt: skip
    counts = {name: len(rows) for name, rows in tables.items() if name.startswith("silver.")}
    assert list(counts.values()) == [1000, 10, 2]
    assert sorted(row["reason"] for row in tables["silver.quarantined_readings"]) == ["not_json", "wrong_type"]
    assert sum(row["readings"] for row in tables["gold.readings_by_kind"]) == 1000
    totals = sum((row["total"] for row in tables["gold.readings_by_kind"]), Decimal(0))
    assert totals == sum((Decimal(f"{n / 4:.2f}") for n in range(1000)), Decimal(0))
    check = outputs["headrace check"]
    for name in ("ledger", "parity", "schema_contract"):
        assert name in check
    assert "accepted into silver.readings" in outputs["headrace explain --event-id r-7"]
    assert "Record meter-readings/0/0" in outputs["headrace explain --offset meter-readings/0/0"]
