"""Finds a regular expression for the lines of a log: a known format, `key=value`, or a time and the rest."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs.operations.new_topic.key_values import build_key_value_pattern
from platform_assets.errors import UsageError

# Enough to choose a format by; all lines are held against the chosen one.
_LOOKED_AT = 2000
# A format that fits fewer lines than half is not the file's.
_LEAST_SHARE = 0.5

_QUOTED = r'"(?P<{}>(?:[^"\\]|\\.)*)"'
_WEB = (
    r"(?P<client>\S+) \S+ (?:-|(?P<user>\S+)) \[(?P<time>[^\]]+)\] "
    r'"(?:(?P<method>[A-Z]+) (?P<path>\S+)(?: (?P<protocol>[^\s"]+))?|(?P<request>(?:[^"\\]|\\.)*))" '
    r"(?P<status>\d{3}) (?:-|(?P<size>\d+))"
)
_REST = r"(?: (?P<rest>.*))?"
_LEVELS = "TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|CRITICAL|FATAL|trace|debug|info|notice|warn|warning|error|fatal"
_TIMES = (
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,6})?(?:Z|[+-]\d\d:?\d\d)?",
    r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d",
    r"\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}",
    r"\d{10,19}(?:\.\d{1,9})?",
)
_KNOWN = (
    ("web log in the combined format", f"{_WEB} {_QUOTED.format('referrer')} {_QUOTED.format('agent')}{_REST}"),
    ("web log in the common format", f"{_WEB}{_REST}"),
    (
        "syslog (RFC 5424)",
        r"<(?P<priority>\d{1,3})>(?P<version>\d{1,2}) (?P<time>\S+) (?:-|(?P<host>\S+)) (?:-|(?P<program>\S+)) "
        r"(?:-|(?P<process>\S+)) (?:-|(?P<message_type>\S+)) (?:-|(?P<data>(?:\[(?:[^\]\\]|\\.)*\])+))"
        r"(?: (?P<message>.*))?",
    ),
    (
        "syslog (RFC 3164)",
        r"(?:<(?P<priority>\d{1,3})>)?(?P<time>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d) (?P<host>\S+) "
        r"(?P<program>[^\s:\[]+)(?:\[(?P<process>\d+)\])?: ?(?P<message>.*)",
    ),
)


@dataclass(frozen=True)
class FoundPattern:
    """A pattern with a group for each field, and what was found, as sentences."""

    pattern: str
    notes: tuple[str, ...]

    @property
    def compiled(self) -> re.Pattern[str]:
        """The pattern, ready to match."""
        return re.compile(self.pattern)


def find_pattern(texts: Sequence[str], path: Path) -> FoundPattern:
    """The first of the known formats that fits most of the lines. Raises `UsageError` where none fits half of them."""
    if not texts:
        raise UsageError(f"{path} holds no line. Give a file with some hundred samples.")
    some = texts[:: max(1, len(texts) // _LOOKED_AT)]
    candidates = [*_KNOWN]
    if (pairs := build_key_value_pattern(some)) is not None:
        candidates.append(("lines of key=value", pairs))
    candidates += [("lines that begin with a time", pattern) for pattern in _list_splits()]
    shares = [(_count(pattern, some) / len(some), name, pattern) for name, pattern in candidates]
    share, name, pattern = max(shares, key=lambda found: found[0])  # of equal ones the first, which says the most
    if share < _LEAST_SHARE:
        raise UsageError(
            f"{path}: no known format fits half of the lines, and they do not begin with a time. The first is "
            f"{texts[0][:80]!r}. Write the topic's file by hand: docs/adding-a-topic.md#text-lines."
        )
    said = f"These are {name}." if name.startswith("lines") else f"The lines are a {name}."
    return FoundPattern(pattern, (said,))


def _list_splits() -> list[str]:
    """Patterns of a time, a level and the rest, the ones that say more first."""
    found = []
    for level in (rf"[\s|-]*\[?(?P<level>{_LEVELS})\b\]?:?", ""):
        for time in _TIMES:
            found.append(rf"\[?(?P<time>{time})\]?{level}[\s|:-]*(?P<message>.*)")
    return found


def _count(pattern: str, texts: Sequence[str]) -> int:
    compiled = re.compile(pattern)
    return sum(compiled.fullmatch(text) is not None for text in texts)
