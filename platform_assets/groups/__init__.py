"""The catalogue of groups: every module in this folder that defines `GROUP` is one. A new group is a new file.

A group is deployed, supervised, stopped and restarted as one Spark application. HEADRACE_GROUPS says which there are.
"""

from __future__ import annotations

import importlib
import pkgutil

from platform_assets.errors import SettingError
from platform_assets.streaming.stream_spec import Group

ALL = "all"
"""HEADRACE_GROUPS for every group that there is a file of."""


def load_all_groups() -> tuple[Group, ...]:
    """Every group, enabled or not, in the order of their names."""
    modules = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    return tuple(sorted((module.GROUP for module in modules), key=lambda group: group.name))


def select_groups(groups: tuple[Group, ...], enabled: str) -> tuple[Group, ...]:
    """The groups that a text like that of HEADRACE_GROUPS names, in its order. Raises `SettingError` for any other."""
    known = {group.name: group for group in groups}
    names = list(known) if enabled.strip() == ALL else list(dict.fromkeys(name.strip() for name in enabled.split(",")))
    if unknown := [name for name in names if name not in known]:
        raise SettingError(
            f"HEADRACE_GROUPS: there is no group {', '.join(unknown)}. There are: {', '.join(known)}. Write names with "
            f"commas between, or {ALL}."
        )
    return tuple(known[name] for name in names)
