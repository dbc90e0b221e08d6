"""What tests change in a copy of the project."""

from __future__ import annotations

from pathlib import Path


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
