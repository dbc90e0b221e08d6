"""How the environment is made: what pip was told reaches uv, and what is installed first is the locked one."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.install_packages import select_requirements, uv_settings

_ROOT = Path(__file__).parents[2]


def test_uv_is_told_what_pip_was_told_and_the_environment_comes_first() -> None:
    listing = (
        "global.index-url='https://one.example/simple'\n"
        ":env:.index-url='https://two.example/simple?a=b'\n"
        "install.trusted-host='one.example two.example'\n"
        "global.extra-index-url='\\nhttps://three.example\\nhttps://four.example'\n"
        ":env:.find-links='/a /b'\n"
        ":env:.no-color='1'\n"
    )
    assert uv_settings(listing) == {
        "UV_DEFAULT_INDEX": "https://two.example/simple?a=b",
        "UV_INDEX": "https://three.example https://four.example",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_INSECURE_HOST": "one.example two.example",
        "UV_FIND_LINKS": "/a,/b",
    }
    assert uv_settings("") == {}


@pytest.mark.parametrize("name", ["uv", "setuptools"])
def test_what_installs_the_others_is_pinned_by_hash(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(_ROOT)
    first, *hashes = select_requirements(name).strip().splitlines()
    assert re.fullmatch(rf"{name}==[\d.]+ \\", first)
    assert hashes
    assert all(line.strip().startswith("--hash=sha256:") for line in hashes)


def test_python_that_is_too_old_is_refused_by_name(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.1"\nexit 1\n')
    old.chmod(0o755)
    result = subprocess.run(
        ["deploy/create_environment.sh", str(tmp_path / "venv")],
        cwd=_ROOT, env={"PATH": "/usr/bin:/bin", "PYTHON": str(old)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 1
    assert "Headrace needs Python 3.11, 3.12 or 3.13; found: Python 3.9.1." in result.stderr
    assert not (tmp_path / "venv").exists()


def test_what_set_up_runs_first_needs_no_package() -> None:
    program = "import sys; sys.path.insert(0, '.'); import resources.jars, resources.java, deploy.install_packages"
    command = [sys.executable, "-S", "-c", program]
    assert subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False).stderr == ""
