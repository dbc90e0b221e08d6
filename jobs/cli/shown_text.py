"""Text of records on a terminal: it has to stay one line, and must not steer the terminal."""

from __future__ import annotations


def show(text: str) -> str:
    """The text with all that is not printed spelled out: line ends, control sequences, marks of direction."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
