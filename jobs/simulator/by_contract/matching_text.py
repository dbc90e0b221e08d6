"""Texts that a regular expression matches: made by walking through the pattern as Python has parsed it."""

from __future__ import annotations

import re
import re._constants as opcodes  # type: ignore[import-not-found]
import re._parser as parser  # type: ignore[import-not-found]
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from random import Random
from typing import Any

from platform_assets.errors import UsageError

# Of a repetition without an end, and of any other: longer texts show nothing more.
_MOST_REPEATS = 6
# Tries for what a walk cannot know, such as what a look-ahead says.
_TRIES = 50
_ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 -_./:,;=@#+*?!'\"()[]{}<>|&%$\\~^\t"
_CATEGORIES = {
    opcodes.CATEGORY_DIGIT: r"\d", opcodes.CATEGORY_NOT_DIGIT: r"\D", opcodes.CATEGORY_SPACE: r"\s",
    opcodes.CATEGORY_NOT_SPACE: r"\S", opcodes.CATEGORY_WORD: r"\w", opcodes.CATEGORY_NOT_WORD: r"\W",
}  # fmt: skip
_NOTHING = (opcodes.AT, opcodes.ASSERT, opcodes.ASSERT_NOT)


def make_match(pattern: str, random: Random) -> str:
    """A text that the pattern matches as a whole. Raises `UsageError` for a pattern that it cannot invert."""
    compiled = re.compile(pattern)
    for _ in range(_TRIES):
        if compiled.search(text := write_match(pattern, {}, random)):
            return text
    raise UsageError(f"No text was found that the pattern {pattern!r} matches. Say Meta(examples=[...]) in its place.")


def write_match(pattern: str, texts: Mapping[str, str | None], random: Random) -> str:
    """A text that the pattern is likely to match, with these texts in its named groups; None: a group left out.

    Look-around and anchors are not heeded: the caller has to match it. Raises `UsageError` as `make_match`.
    """
    parsed, names = _parse(pattern)
    return _Walk(names, texts, random, pattern).write(parsed)


@lru_cache(maxsize=64)
def _parse(pattern: str) -> tuple[Any, Mapping[int, str]]:
    parsed = parser.parse(pattern)
    return parsed, {number: name for name, number in parsed.state.groupdict.items()}


class _Walk:
    def __init__(self, names: Mapping[int, str], texts: Mapping[str, str | None], random: Random, pattern: str) -> None:
        self._names, self._texts, self._random, self._pattern = names, texts, random, pattern
        self._written: dict[int, str] = {}

    def write(self, items: Iterable[tuple[Any, Any]]) -> str:
        return "".join(self._write_item(opcode, argument) for opcode, argument in items)

    def _write_item(self, opcode: Any, argument: Any) -> str:
        if opcode in _NOTHING:
            return ""
        if opcode is opcodes.LITERAL:
            return chr(argument)
        if opcode is opcodes.NOT_LITERAL:
            return self._choose(_list_characters(((opcodes.NEGATE, None), (opcodes.LITERAL, argument))))
        if opcode is opcodes.ANY:
            return self._choose(_ALPHABET[:62])
        if opcode is opcodes.IN:
            return self._choose(_list_characters(tuple(argument)))
        if opcode is opcodes.SUBPATTERN:
            return self._write_group(argument[0], argument[3])
        if opcode is opcodes.BRANCH:
            return self.write(self._choose_branch(argument[1]))
        if opcode in (opcodes.MAX_REPEAT, opcodes.MIN_REPEAT, opcodes.POSSESSIVE_REPEAT):
            return self._repeat(*argument)
        if opcode is opcodes.ATOMIC_GROUP:
            return self.write(argument)
        if opcode is opcodes.GROUPREF:
            return self._written.get(argument, "")
        raise UsageError(f"The pattern {self._pattern!r} has a part ({opcode}) for which no text can be made.")

    def _write_group(self, number: int | None, items: Any) -> str:
        text = self._texts.get(self._names.get(number or 0, ""))
        text = self.write(items) if text is None else text
        if number is not None:
            self._written[number] = text
        return text

    def _choose_branch(self, branches: Sequence[Any]) -> Any:
        """One with a group that is wanted, else one without groups that are not."""
        groups = [self._find_wanted(branch) for branch in branches]
        for fits in (lambda wanted: True in wanted, lambda wanted: False not in wanted):
            if chosen := [branch for branch, wanted in zip(branches, groups, strict=True) if fits(wanted)]:
                return self._random.choice(chosen)
        return self._random.choice(branches)

    def _repeat(self, least: int, most: int, items: Any) -> str:
        wanted = self._find_wanted(items)
        if most == 1 and True in wanted:
            least = 1
        elif False in wanted:
            most = least
        count = self._random.randint(least, min(int(most), least + _MOST_REPEATS))
        return "".join(self.write(items) for _ in range(count))

    def _find_wanted(self, items: Any) -> set[bool]:
        """Whether each named group in there has a text (True), or is to be left out (False)."""
        found: set[bool] = set()
        for opcode, argument in items:
            if opcode is opcodes.SUBPATTERN:
                name = self._names.get(argument[0] or 0)
                if name is not None and name in self._texts:
                    found.add(self._texts[name] is not None)
                found |= self._find_wanted(argument[3])
            elif opcode is opcodes.BRANCH:
                found |= set().union(*map(self._find_wanted, argument[1]))
            elif opcode in (opcodes.MAX_REPEAT, opcodes.MIN_REPEAT, opcodes.POSSESSIVE_REPEAT):
                found |= self._find_wanted(argument[2])
        return found

    def _choose(self, characters: str) -> str:
        if not characters:
            raise UsageError(f"The pattern {self._pattern!r} has a set of characters from which none can be taken.")
        return self._random.choice(characters)


@lru_cache(maxsize=256)
def _list_characters(items: tuple[Any, ...]) -> str:
    """Characters of a set: letters and digits where it has some, for they read best."""
    is_negated = items[0][0] is opcodes.NEGATE
    named = "".join(
        chr(code)
        for opcode, argument in items
        if opcode in (opcodes.LITERAL, opcodes.RANGE)
        for code in (
            [argument] if opcode is opcodes.LITERAL else range(argument[0], min(argument[1], argument[0] + 99) + 1)
        )
    )
    alphabet = _ALPHABET if is_negated else _ALPHABET + "".join(each for each in named if each not in _ALPHABET)
    found = "".join(each for each in alphabet if any(_is_in(each, item) for item in items) != is_negated)
    plain = "".join(each for each in found if each.isalnum())
    return plain or found


def _is_in(character: str, item: tuple[Any, Any]) -> bool:
    opcode, argument = item
    if opcode is opcodes.LITERAL:
        return ord(character) == argument
    if opcode is opcodes.RANGE:
        return bool(argument[0] <= ord(character) <= argument[1])
    if opcode is opcodes.CATEGORY:
        return re.match(_CATEGORIES[argument], character) is not None
    return False
