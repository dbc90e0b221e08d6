"""Names that a written schema may have: those of columns as they are, and those of types made of them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from platform_assets.streaming.formats.reader import SchemaError

# What Avro's and Protobuf's grammars have in common; Delta's columns may have other names.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


def require_name(name: str, format_name: str) -> str:
    """The same name. Raises `SchemaError` for one that the format does not have."""
    if not _NAME.fullmatch(name):
        raise SchemaError(
            f"{format_name} has no field of the name {name!r}: ASCII letters, digits and _ only, and no digit first"
        )
    return name


class FreeNames:
    """Names of one scope, each given once."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)

    def take(self, wanted: str) -> str:
        """The name, with a number behind it where it is taken. The same calls give the same names."""
        name, number = wanted, 2
        while name in self._taken:
            name, number = f"{wanted}{number}", number + 1
        self._taken.add(name)
        return name
