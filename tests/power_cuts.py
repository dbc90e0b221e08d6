"""Cuts the power before any lasting step of what is done in this process."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest


class PowerFailure(BaseException):
    """Ends what is being done, as a kill would."""


class Steps:
    """Counts the steps, and cuts the power before number `last`, counted from 0."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, steps: Mapping[type, Sequence[str]]) -> None:
        """`steps`: the methods that do something lasting, each call of which is a step."""
        self.taken = 0
        self.last: int | None = None
        self._before_each: Callable[[], object] = lambda: None
        for owner, names in steps.items():
            for name in names:
                monkeypatch.setattr(owner, name, self._watch(getattr(owner, name)))

    def copy_before_each(self, root: Path, into: Path, do: Callable[[], object]) -> list[Path]:
        """Does it once, and returns copies of the folder `root`: as it is before each step, in order.

        Each copy is what a power cut there would leave behind. Copies and not cuts, for all of it would have to be done
        once more for each cut.
        """
        copies: list[Path] = []

        def copy() -> None:
            copies.append(Path(shutil.copytree(root, into / f"cut{len(copies)}")))

        self._before_each = copy
        try:
            do()
        finally:
            self._before_each = lambda: None
        return copies

    def _watch(self, step: Callable[..., Any]) -> Callable[..., Any]:
        def take(*args: Any, **kwargs: Any) -> Any:
            if self.taken == self.last:
                raise PowerFailure
            self._before_each()
            self.taken += 1
            return step(*args, **kwargs)

        return take
