"""docs/adding-a-stream.md, followed to the letter in a copy of the project."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.copied_project import keep_streams, replace_text

_ROOT = Path(__file__).parents[2]
_PAGE = (_ROOT / "docs/adding-a-stream.md").read_text()
_NAME = "events_by_country"

_LIST = """
from platform_assets.definitions import defs
graph = defs().get_repository_def().asset_graph
for key in graph.asset_check_keys:
    print(key.asset_key.to_user_string(), key.name)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project with what the page says: a file, the windows' size."""
    copy = tmp_path / "project"
    for folder in ("platform_assets", "jobs", "resources", "tests", "benchmarks"):
        shutil.copytree(_ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md"):
        shutil.copy(_ROOT / file, copy)
    stream, windows = re.findall(r"```python\n(.*?)```", _PAGE, re.DOTALL)
    (path,) = re.findall(r"^`(platform_assets/streams/\w+\.py)`:$", _PAGE, re.MULTILINE)
    (copy / path).write_text(stream)
    replace_text(copy / "tests/spark/test_streams_over_events.py", "\nWINDOWS = {\n", f"\nWINDOWS = {{\n{windows}")
    return copy


def run(project: Path, *command: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(project)}
    result = subprocess.run(
        [sys.executable, *command], cwd=project, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout


@pytest.mark.release
def test_the_page_makes_a_stream_with_checks_that_equals_its_twin(project: Path) -> None:
    checks = {line for line in run(project, "-c", _LIST).splitlines() if _NAME in line}
    names = ("schema_contract", "freshness", "ledger", "parity", "stream_running", "table_files")
    assert checks == {f"gold/{_NAME} {check}" for check in names}
    keep_streams(project, "events", _NAME)
    only = f"has_a_rule or stream_in_batches or {_NAME}"
    output = run(project, "-m", "pytest", "-q", "tests/spark/test_streams_over_events.py", "-k", only)
    assert f"[{_NAME}]" in run(
        project, "-m", "pytest", "-q", "--collect-only", "tests/spark/test_streams_over_events.py"
    )
    assert "failed" not in output
