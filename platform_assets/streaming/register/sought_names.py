"""The names of users to be found, as what a search needs of them. The register of forgotten users has only hashes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from platform_assets.streaming.formats.json_forms import ReadForm, find_no_form, find_read_form
from platform_assets.streaming.formats.registered_schema import SchemaSource
from platform_assets.streaming.topic_spec import Topic

_WEAK_BYTES, _WEAK_DIGITS = 3, 8


@dataclass(frozen=True)
class Sought:
    """The names to find: `holds` says whether a text is one, `lengths` are their sizes in bytes; None if unknown.

    `needle`: what all texts that name them have in them, if anything. `fields` name users too, besides the usual ones.
    `read_form`: what a raw value is when it is unpacked; `is_packed`: none can be searched before that.
    """

    holds: Callable[[bytes], bool]
    lengths: frozenset[int | None]
    needle: bytes = b""
    fields: frozenset[str] = frozenset()
    read_form: ReadForm = find_no_form
    is_packed: bool = False

    @staticmethod
    def one(user: str, topics: Iterable[Topic] = (), schemas: SchemaSource | None = None) -> Sought:
        """One user, by the name, in records of these topics, which may be written by `schemas`."""
        name, chosen = user.encode(), list(topics)
        fields = frozenset(field for topic in chosen for field in topic.roles.user_fields)
        is_packed = any(topic.compression is not None for topic in chosen)
        read_form = find_read_form(chosen, schemas)
        return Sought(lambda text: text == name, frozenset([len(name)]), name, fields, read_form, is_packed)


def is_weak(name: bytes) -> bool:
    """Whether a name is too short to mean somebody wherever it stands."""
    return len(name) < _WEAK_BYTES or (len(name) < _WEAK_DIGITS and name.isdigit())
