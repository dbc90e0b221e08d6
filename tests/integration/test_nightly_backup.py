"""A backup of streams that run, under a real daemon: killed while they rest, and whole."""

from __future__ import annotations

import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from deltalake import DeltaTable

from jobs.operations.backup import restore
from platform_assets.checks.backup_restored import judge
from platform_assets.folders import Folder
from platform_assets.kept_backups import list_backups
from platform_assets.streams import load_all_stream_groups
from tests.integration.supervised_platform import ROOT, Platform, wait_for

# With "killed" the process ends by SIGKILL where the groups are its own, and nothing of them was copied so far.
BACKUP = """
import os, signal, sys
import dagster as dg
from jobs.operations.lakehouse_copy import LakehouseCopy
from jobs.operations.nightly_backup import make_nightly_backup
from platform_assets.streams import load_all_stream_groups
from resources.settings import load_settings
if sys.argv[1:] == ["killed"]:
    LakehouseCopy.complete = lambda copy: os.kill(os.getpid(), signal.SIGKILL)
with dg.DagsterInstance.get() as instance:
    make_nightly_backup(load_all_stream_groups(), load_settings(), instance, lambda line: print(line, flush=True))
"""


def back_up(platform: Platform, *arguments: str) -> subprocess.CompletedProcess[str]:
    place = {"HEADRACE_BACKUP_PLACE": str(platform.settings.home / "backups")}
    command = [sys.executable, "-c", BACKUP, *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=platform.environment | place, capture_output=True, text=True, check=False
    )


@pytest.mark.release
@pytest.mark.timeout(1800)
def test_streams_go_on_after_a_backup_whether_it_was_killed_or_not(
    platform: Platform, daemon: subprocess.Popen[bytes], shoppers: threading.Event, tmp_path: Path
) -> None:
    place = Folder(str(platform.settings.home / "backups"))
    host = wait_for(platform.running_host, "the run hosts the queries")
    wait_for(platform.coordinates, "the first rows")
    assert back_up(platform, "killed").returncode == -9
    next_host = wait_for(lambda: platform.running_host(host.run_id), "a run after the backup that was killed")
    assert list_backups(place) == []

    done = back_up(platform)
    assert done.returncode == 0, done.stdout + done.stderr
    [kept] = list_backups(place)
    assert judge([kept], datetime.now(UTC), timedelta(hours=1)).passed
    assert place.list_folders() == [kept.name]  # what was killed is gone
    wait_for(lambda: platform.running_host(next_host.run_id), "a run after the backup")
    shoppers.set()
    wait_for(platform.is_caught_up, "everything is read")
    platform.prove_complete()

    moved = platform.settings.model_copy(update={"home": tmp_path, "lakehouse": str(tmp_path / "moved")})
    restore(load_all_stream_groups(), moved, f"{place.uri}/{kept.name}")
    rows = len(DeltaTable(f"{moved.lakehouse}/silver/events").to_pyarrow_table(columns=["kafka_offset"]))
    assert 0 < rows == kept.manifest.rows["silver.events"]
