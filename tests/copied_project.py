"""A copy of the project in a folder of its own, and what tests change in it."""

from __future__ import annotations

import shutil
from pathlib import Path

_ROOT = Path(__file__).parents[1]


def copy_project(place: Path, *further: str) -> Path:
    """Copies the code to a place where nothing is, with `further` files and folders; returns the place."""
    for name in ("platform_assets", "jobs", "resources", *further):
        if (source := _ROOT / name).is_dir():
            shutil.copytree(source, place / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, place)
    return place


def replace_text(file: Path, old: str, new: str) -> None:
    """Replaces what must stand in the file once."""
    text = file.read_text()
    assert text.count(old) == 1, old
    file.write_text(text.replace(old, new))


def keep_streams(project: Path, *names: str) -> None:
    """Leaves the copy these streams only: each other one takes seconds of a cold JVM and shows nothing more."""
    is_stream = 'if hasattr(module, "STREAM")\n'
    kept = f"{is_stream.strip()} and module.STREAM.name in {names}\n"
    replace_text(project / "platform_assets/streams/__init__.py", is_stream, kept)
