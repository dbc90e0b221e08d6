"""The environment of a program that is measured: that of this process, without the settings of who runs it."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parents[1]
"""This checkout."""


def without_settings() -> dict[str, str]:
    """A copy without `HEADRACE_*`, but for where the jars are kept, and with the embedded broker."""
    ours = {k: v for k, v in os.environ.items() if not k.startswith("HEADRACE_") or k == "HEADRACE_CACHE"}
    return {**ours, "KAFKA_BOOTSTRAP_SERVERS": ""}


def of_checkout(root: Path) -> dict[str, str]:
    """The environment of `without_settings`; a checkout's code comes before what is installed."""
    return {**without_settings(), "PYTHONPATH": str(root)}
