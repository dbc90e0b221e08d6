"""The catalogue of groups: every module in this folder that defines `GROUP` is one. A new group is a new file.

A group is deployed, supervised, stopped and restarted as one Spark application. HEADRACE_GROUPS says which there are.
"""

from __future__ import annotations

import importlib
import itertools
import pkgutil

from platform_assets.errors import CatalogueError, SettingError
from platform_assets.streaming.stream_spec import Group

ALL = "all"
"""HEADRACE_GROUPS for every group that there is a file of."""


def load_all_groups() -> tuple[Group, ...]:
    """Every group, enabled or not, in the order of their names. Raises `CatalogueError` for two of one name."""
    modules = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    groups = tuple(sorted((module.GROUP for module in modules), key=lambda group: group.name))
    for first, second in itertools.pairwise(groups):
        if first.name == second.name:
            raise CatalogueError(f"Two files of platform_assets/groups have a group {first.name}. Rename one.")
    return groups


def select_groups(groups: tuple[Group, ...], enabled: str) -> tuple[Group, ...]:
    """The groups that a text like that of HEADRACE_GROUPS names, in its order. Raises `SettingError` for any other."""
    known = {group.name: group for group in groups}
    if not enabled.strip():
        raise SettingError(f"HEADRACE_GROUPS is blank. Write names of groups with commas between, or {ALL}.")
    names = list(known) if enabled.strip() == ALL else list(dict.fromkeys(name.strip() for name in enabled.split(",")))
    if unknown := [name for name in names if name not in known]:
        raise SettingError(
            f"HEADRACE_GROUPS: there is no group {', '.join(unknown)}. There are: {', '.join(known)}. Write names with "
            f"commas between, or {ALL}."
        )
    return tuple(known[name] for name in names)
