"""A pattern for lines of `key=value`, as many services log: keys in one order, each of them perhaps absent."""

from __future__ import annotations

import re
from collections.abc import Sequence

from jobs.operations.new_topic.field_names import as_attribute

_PAIR = re.compile(r'([A-Za-z_][\w.-]*)=("(?:[^"\\]|\\.)*"|[^\s"]*)')
_LINE = re.compile(rf"{_PAIR.pattern}(?: {_PAIR.pattern})*")
# More keys than a table should have columns: such lines are better kept as one text.
_MOST_KEYS = 60
# The value without the quotes around it, if it has any: what stands before it is looked at, not kept.
_VALUE = r'"?(?P<{}>(?<=")(?:[^"\\]|\\.)*(?=")|(?<!")[^\s"]*)"?'


def build_key_value_pattern(texts: Sequence[str]) -> str | None:
    """A pattern of all keys in their order; None where half of the lines is no list of pairs, or the order varies."""
    lines = [[key for key, _ in _PAIR.findall(text)] for text in texts if _LINE.fullmatch(text)]
    if not lines or len(lines) * 2 < len(texts):
        return None
    order = _merge(lines)
    if order is None or len(order) > _MOST_KEYS or len({as_attribute(key) for key in order}) < len(order):
        return None
    required = {key for key in order if all(key in keys for keys in lines)}
    parts: list[str] = []
    for place, key in enumerate(order):
        part = re.escape(key).replace("\\-", "-") + "=" + _VALUE.format(as_attribute(key))
        space = " " if place else ""
        parts.append(f"{space}{part}" if key in required else f"(?:{space}{part})?")
    return "".join(parts) if order[0] in required else None


def _merge(lines: Sequence[list[str]]) -> list[str] | None:
    """One order in which the keys of each line stand; None where there is none, or a line has a key twice."""
    after: dict[str, set[str]] = {}
    for keys in lines:
        if len(set(keys)) < len(keys):
            return None
        for place, key in enumerate(keys):
            after.setdefault(key, set()).update(keys[place + 1 : place + 2])
    order: list[str] = []
    while after:
        blocked = {follower for followers in after.values() for follower in followers}
        free = [key for key in after if key not in blocked]
        if not free:
            return None
        order.append(free[0])
        del after[free[0]]
    return order
