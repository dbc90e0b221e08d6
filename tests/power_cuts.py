"""Cuts the power before any lasting step of what is done in this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
        for owner, names in steps.items():
            for name in names:
                monkeypatch.setattr(owner, name, self._watch(getattr(owner, name)))

    def is_cut(self, number: int, do: Callable[[], object], meanwhile: Callable[[], object] = lambda: None) -> bool:
        """Does it with the power cut before step `number`, looks at what is left (`meanwhile`), and does it again.

        Returns whether it came so far; where it has fewer steps it is done once.
        """
        self.taken, self.last = 0, number
        try:
            do()
        except PowerFailure:
            self.last = None
            meanwhile()
            do()
            return True
        finally:
            self.last = None
        return False

    def _watch(self, step: Callable[..., Any]) -> Callable[..., Any]:
        def take(*args: Any, **kwargs: Any) -> Any:
            if self.taken == self.last:
                raise PowerFailure
            self.taken += 1
            return step(*args, **kwargs)

        return take
