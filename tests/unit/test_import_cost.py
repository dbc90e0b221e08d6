"""The daemon imports the composition root every minute: it must stay light and need no environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_HEAVY = ("pyspark", "duckdb", "matplotlib", "pandas", "pyarrow", "deltalake", "confluent_kafka", "jgo")

_PROGRAM = "import sys, platform_assets.definitions; print(*sorted({m.split('.')[0] for m in sys.modules}))"


def test_definitions_import_nothing_heavy_and_touch_nothing(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", _PROGRAM]
    result = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
    assert not set(_HEAVY) & set(result.stdout.split())
    assert list(tmp_path.iterdir()) == []
