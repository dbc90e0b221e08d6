"""Lies on the Python path of a platform under chaos; Python loads it at the start of each process.

Three things that nobody can do from outside: to kill a process between two steps of a write, to let it hang there, and
to give it another clock. The code under test is unchanged: `deltalake.write_deltalake`, and the commit of files that
are written already, are wrapped as soon as somebody imports them, and look for a file that names the step; `time.time`
is ahead by CHAOS_CLOCK_SKEW_SECONDS in every second process.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

CRASH_POINT = "crash_point"
"""The file in the home: `die` or `hang`, `before` or `after`, and the end of a table's path. Who dies of it removes it;
who hangs does so while it is there."""
_LOOK_SECONDS = 0.2


class _DeltalakeFinder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != "deltalake":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        assert spec is not None and spec.loader is not None
        load = spec.loader.exec_module

        def load_and_wrap(module: ModuleType) -> None:
            load(module)
            _wrap_writes(module)

        spec.loader.exec_module = load_and_wrap  # type: ignore[method-assign]
        return spec


def _wrap_writes(deltalake: Any) -> None:
    write, order = deltalake.write_deltalake, Path(os.environ["HEADRACE_HOME"], CRASH_POINT)

    def write_and_obey(table: Any, *args: Any, **kwargs: Any) -> None:
        _obey("before", table, order)
        write(table, *args, **kwargs)
        _obey("after", table, order)

    commit = deltalake.DeltaTable.create_write_transaction

    def commit_and_obey(table: Any, *args: Any, **kwargs: Any) -> None:
        _obey("before", table, order)
        commit(table, *args, **kwargs)
        _obey("after", table, order)

    deltalake.write_deltalake = write_and_obey
    deltalake.DeltaTable.create_write_transaction = commit_and_obey


def _obey(moment: str, table: Any, order: Path) -> None:
    try:
        what, when, name = order.read_text().split()
    except FileNotFoundError:  # nobody is meant
        return
    uri = str(getattr(table, "table_uri", table)).rstrip("/")
    if when != moment or not uri.endswith(name):
        return
    if what == "die":
        order.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    while order.exists():
        time.sleep(_LOOK_SECONDS)


def _skew_clock(seconds: float) -> None:
    right = time.time
    time.time = lambda: right() + seconds


if "HEADRACE_HOME" in os.environ:
    sys.meta_path.insert(0, _DeltalakeFinder())
    if os.getpid() % 2:
        _skew_clock(float(os.environ.get("CHAOS_CLOCK_SKEW_SECONDS", "0")))
