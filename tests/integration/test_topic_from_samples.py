"""docs/adding-a-topic.md, from samples: its commands, in a copy of the project, over a broker of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from deltalake import DeltaTable

from tests.copied_project import copy_project
from tests.short_lived_jvm import ENVIRONMENT

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/adding-a-topic.md").read_text()
SAMPLES = re.findall(r"`(\w+\.jsonl)`:\n\n```jsonl\n(.*?)```", PAGE, re.DOTALL)
(COMMANDS,) = re.findall(r"```sh\n(headrace new-topic .*?)```", PAGE, re.DOTALL)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    copy = copy_project(tmp_path / "project", "tests", "pyproject.toml")
    ((name, samples),) = SAMPLES
    (copy / name).write_text(samples)
    return copy


def run_commands(project: Path) -> dict[str, str]:
    """What each command of the page says, by its second word."""
    environment = {
        **os.environ, **ENVIRONMENT, "PYTHONPATH": str(project), "HEADRACE_HOME": str(project / "home"),
        "KAFKA_BOOTSTRAP_SERVERS": "", "HEADRACE_SPARK_HEAP_MIB": "768",
    }  # fmt: skip
    said = {}
    for line in COMMANDS.splitlines():
        program, *rest = line.split()
        if program == "export":
            name, _, value = rest[0].partition("=")
            environment[name] = value
            continue
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "jobs.cli", *rest], cwd=project, env=environment, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        print(f"{line}: {time.monotonic() - began:.1f} s")
        assert done.returncode == 0, f"{line}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        assert "Traceback" not in done.stderr
        said[rest[0]] = done.stdout + done.stderr
    return said


def count_rows(project: Path, table: str) -> int:
    return int(DeltaTable(str(project / "home/lakehouse" / table.replace(".", "/"))).to_pyarrow_table().num_rows)


def read_number(said: str, name: str) -> int:
    found = re.search(rf"^ *{name} +([\d,]+) *$", said, re.MULTILINE)
    return int(found[1].replace(",", "")) if found else 0


@pytest.mark.release
@pytest.mark.timeout(600)
def test_samples_lead_to_checked_rows(project: Path) -> None:
    said = run_commands(project)
    assert "All 6 samples are accepted by the topic." in said["new-topic"]
    sent = said["simulate"]
    valid, duplicates = read_number(sent, "valid"), read_number(sent, "duplicates")
    assert valid > 4000 and duplicates > 10
    accepted, quarantined, repeated = (
        count_rows(project, f"silver.{name}")
        for name in ("deliveries", "quarantined_deliveries", "deduplicated_deliveries")
    )
    assert (accepted, repeated) == (valid, duplicates)
    assert accepted + quarantined + repeated == read_number(sent, "records")
    rows = DeltaTable(str(project / "home/lakehouse/gold/deliveries_by_state")).to_pyarrow_table().to_pylist()
    assert sum(row["record_count"] for row in rows) == accepted
    assert {row["state"] for row in rows} == {"sent", "arrived"}
    for name in ("ledger", "parity", "schema_contract"):
        assert name in said["check"]
    assert "Record deliveries/0/0" in said["explain"]
    tests = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/unit/test_topic_deliveries.py"]
    done = subprocess.run(
        [sys.executable, *tests], cwd=project, env={**os.environ, "PYTHONPATH": str(project)}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
