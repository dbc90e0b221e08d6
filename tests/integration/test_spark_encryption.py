"""What Spark leaves on a local disk, with and without its encryption, and where it listens."""

from __future__ import annotations

import ipaddress
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration import spilled_rows
from tests.integration.supervised_platform import ROOT

pytestmark = pytest.mark.release


def spill(home: Path, how: str) -> dict[str, Any]:
    """What an application in a process of its own has found of its own files."""
    command = [sys.executable, "-m", spilled_rows.__name__, str(home), how]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_what_is_spilled_shuffled_and_kept_is_plain_text_only_without_encryption(tmp_path: Path) -> None:
    plain, encrypted = spill(tmp_path / "plain", "plain"), spill(tmp_path / "encrypted", "encrypt")
    assert plain["plain"] > 3
    assert encrypted["files"] >= plain["plain"] and encrypted["plain"] == 0
    for found in (plain, encrypted):
        addresses = [ipaddress.ip_address(address.removeprefix("::ffff:")) for address in found["listening"]]
        # py4j's gateway, the driver's two, the UI.
        assert len(addresses) >= 4 and all(address.is_loopback for address in addresses), found
