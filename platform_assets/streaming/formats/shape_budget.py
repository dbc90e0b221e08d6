"""A limit for shapes: types that hold each other in many ways have no end, or one that no memory holds."""

from __future__ import annotations

from collections.abc import Callable

from platform_assets.streaming.formats.shapes import Shape

# Twenty types that all hold each other have more paths through them than a memory has bytes. The largest schemas that
# people write have some thousand members.
_MOST_MEMBERS = 10_000
# A type that is 24 objects deep is no column; deeper ones would meet Python's own limit.
_DEPTHS = (24, 8, 4, 2, 1)


class ShapeBudget:
    """How many members a shape may still have, and how many records deep it may be."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self._left = _MOST_MEMBERS

    def take(self) -> None:
        """Counts a member. Raises `_SpentError` where there are too many."""
        self._left -= 1
        if self._left < 0:
            raise _SpentError


class _SpentError(Exception):
    """The shape has too many members at this depth."""


def build_within(build: Callable[[ShapeBudget], Shape]) -> Shape:
    """A shape by a function that keeps to a budget: with all that it holds, or as deep as its size allows.

    What lies deeper is a value of any type, and so is the whole where even its outermost record is too large.
    """
    for depth in _DEPTHS:
        try:
            return build(ShapeBudget(depth))
        except _SpentError:
            continue
    return Shape("any")
