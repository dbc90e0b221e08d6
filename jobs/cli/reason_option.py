"""The option by which a command that changes data is told why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

KEPT = "Why, for those who read it later in platform.audit_log."


def reason_option(text: str = KEPT, *, required: bool = False) -> Callable[[Any], Any]:
    """`--because`, with the older spelling `--reason`; an empty text where nobody says why."""
    names = ("--because", "--reason", "reason")
    return click.option(*names, required=True, help=text) if required else click.option(*names, default="", help=text)


because_option = click.option("--because", "reason", default="", help=f"With --accept: {KEPT[0].lower()}{KEPT[1:]}")
"""The same for a command whose `--reason` is something else."""
