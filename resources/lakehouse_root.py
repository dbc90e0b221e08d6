"""The root of the lakehouse: what HEADRACE_LAKEHOUSE says, or a folder in the home."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from platform_assets import object_store
from resources import cluster_settings

if TYPE_CHECKING:
    from resources.settings import Settings

# delta-rs, by which tables are read and written, ends where a path has one of these, opens another path, or (? and #)
# finds no commit in the log: what streams read back at a start would be nothing.
_UNREADABLE = re.compile(r"%[0-9a-fA-F]{2}|[\[\]\\|^?#\x00-\x1f\x7f]")
_URI_WITHOUT_SLASHES = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:(?!//)")


def resolve_root(settings: Settings) -> str:
    """The root of all tables, a local path made absolute. Raises `ValueError` for one that cannot be used."""
    root = settings.lakehouse or str(settings.home / "lakehouse")
    if root.startswith("file:"):
        _check_readable(unquote(urlsplit(root).path))
    elif _URI_WITHOUT_SLASHES.match(root):
        raise ValueError(
            "begins like the URI of an object store, and has no // behind its colon. Write both slashes, or ./ "
            "before the path of a folder on this machine"
        )
    elif trouble := (
        object_store.find_trouble(root, settings.storage_options)
        or object_store.find_trouble_of_a_place(root, settings.storage_options)
        or _find_unsafe_writer(root, settings.reports_engine)
    ):
        raise ValueError(trouble)
    elif "://" not in root:
        root = str(Path(root).expanduser().absolute())
        _check_readable(root)
    if settings.is_on_cluster and not settings.lakehouse_is_shared and not object_store.is_uri(root):
        raise ValueError(cluster_settings.REFUSED_ROOT)
    return root


def _find_unsafe_writer(root: str, reports_engine: str) -> str:
    if not object_store.is_s3(root) or reports_engine == "duckdb":
        return ""
    return (
        "in S3 no report can be written by Spark: Delta's writer does not commit by conditional put there, and "
        "could overwrite another's commit. Set HEADRACE_REPORTS_ENGINE=duckdb"
    )


def _check_readable(path: str) -> None:
    if found := _UNREADABLE.search(path):
        raise ValueError(
            f"tables cannot be read at a path that has {found.group()!r} in it. Set it, or HEADRACE_HOME, to a path "
            "without ? # [ ] | ^ and backslashes, and without % before two hexadecimal digits"
        )
