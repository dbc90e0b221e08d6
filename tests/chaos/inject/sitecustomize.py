"""Lies on the Python path of a platform under chaos; Python loads it at the start of each process.

Two things that nobody can do from outside: to kill a process between two steps of a write, and to give it another
clock. The code under test is unchanged: `deltalake.write_deltalake` is wrapped as soon as somebody imports it, and
looks for a file that names the step; `time.time` is ahead by CHAOS_CLOCK_SKEW_SECONDS in every second process.
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
"""The file in the home: `before` or `after`, and the end of a table's path. It is removed by who dies of it."""


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

    def write_or_die(table: Any, *args: Any, **kwargs: Any) -> None:
        _die_at("before", table, order)
        write(table, *args, **kwargs)
        _die_at("after", table, order)

    deltalake.write_deltalake = write_or_die


def _die_at(moment: str, table: Any, order: Path) -> None:
    try:
        when, name = order.read_text().split()
    except (OSError, ValueError):  # nobody is to die, or the order is being written
        return
    uri = str(getattr(table, "table_uri", table)).rstrip("/")
    if when == moment and uri.endswith(name):
        order.unlink()
        os.kill(os.getpid(), signal.SIGKILL)


def _skew_clock(seconds: float) -> None:
    right = time.time
    time.time = lambda: right() + seconds


if "HEADRACE_HOME" in os.environ:
    sys.meta_path.insert(0, _DeltalakeFinder())
    if os.getpid() % 2:
        _skew_clock(float(os.environ.get("CHAOS_CLOCK_SKEW_SECONDS", "0")))
