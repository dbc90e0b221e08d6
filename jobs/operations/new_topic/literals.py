"""Texts and bytes as Python's source has them, in lines that are not too long."""

from __future__ import annotations

import re

# Leaves room for an indentation and the quotes within the project's 120 columns.
_WIDTH = 96
# Leaves room for a field's name and type before it.
_SENTENCE = 80


def quote(text: str) -> str:
    """A literal in double quotes."""
    return '"' + "".join(each if _is_plain(each) else _escape(each) for each in text) + '"'


def _is_plain(character: str) -> bool:
    return character.isprintable() and character not in '"\\'


def _escape(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"


def quote_long(text: str, indent: int) -> str:
    """A regular expression as raw literals, one a line. What no raw literal holds is written as an escape of it."""
    plain = text.replace("\n", r"\n").replace("\r", r"\r")
    lines = []
    while plain:
        end = _WIDTH
        if len(plain) > _WIDTH:  # between words where there are any
            end = plain.rfind(" ", _WIDTH // 2, _WIDTH) + 1 or _WIDTH
        while plain[:end].endswith("\\"):  # a raw literal cannot end in one, and an escape stays whole
            end += 1
        part, plain = plain[:end], plain[end:]
        lines.append(" " * indent + _quote_raw(part))
    return "\n".join(lines)


def quote_words(text: str) -> str:
    """A literal in double quotes; a long text as several, in parentheses, that are broken between words."""
    parts = re.findall(rf".{{1,{_SENTENCE}}}(?:(?<= )|$)|.{{1,{_SENTENCE}}}", text, re.DOTALL)
    return quote(text) if len(parts) < 2 else f"({' '.join(map(quote, parts))})"


def quote_bytes(value: bytes, indent: int) -> str:
    """Bytes, in parentheses and on several lines where they are long."""
    if len(repr(value)) <= _WIDTH:
        return _double(repr(value))
    parts = [_double(repr(value[start : start + _WIDTH // 2])) for start in range(0, len(value), _WIDTH // 2)]
    lines = "\n".join(" " * (indent + 4) + part for part in parts)
    return f"(\n{lines}\n{' ' * indent})"


def _double(literal: str) -> str:
    """The literal in the quotes that ruff prefers."""
    body = literal[2:-1]
    if literal[1] == '"' or '"' in body:
        return literal
    return f'b"{body}"'


def _quote_raw(part: str) -> str:
    if '"' not in part:
        return f'r"{part}"'
    if "'" not in part:
        return f"r'{part}'"
    return quote(part)
