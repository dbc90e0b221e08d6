"""Dagster's daemon and code server load the definitions again and again: they must be light and need no environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# What computes, reads files or talks to Kafka: each costs tens to hundreds of megabytes and up to seconds.
_ENGINES = (
    "confluent_kafka", "delta", "deltalake", "duckdb", "jgo", "matplotlib", "mlflow", "numpy", "pandas", "polars",
    "py4j", "pyarrow", "pyspark", "scipy", "sklearn",
)  # fmt: skip

# Builds everything, as a code server does, and names each engine with the modules of ours that asked for it.
_PROGRAM = f"""
import builtins, sys

askers = {{}}
real_import = builtins.__import__

def watch(name, globals=None, locals=None, fromlist=(), level=0):
    asker = (globals or {{}}).get("__name__", "")
    if asker.split(".")[0] in ("platform_assets", "jobs", "resources"):
        askers.setdefault(name.split(".")[0], set()).add(asker)
    return real_import(name, globals, locals, fromlist, level)

builtins.__import__ = watch
from platform_assets.definitions import defs

definitions = defs()
assert definitions.get_repository_def().get_all_jobs()
for engine in {_ENGINES}:
    if engine in sys.modules:
        print(engine, "by", ", ".join(sorted(askers.get(engine, ["a library"]))))
"""


@pytest.mark.parametrize("groups", ["clickstream", "all"])
def test_definitions_load_without_an_engine_and_touch_nothing(groups: str, tmp_path: Path) -> None:
    project = str(Path(__file__).parents[2])
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": project, "HEADRACE_GROUPS": groups}
    command = [sys.executable, "-c", _PROGRAM]
    result = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []
