"""What a record is made of: all that could be a name, and where it stands.

Bounded by the record's size: JSON within JSON is read as often as it is encoded, and each level is shorter than the one
around it.
"""

from __future__ import annotations

import codecs
import functools
import json
import re
from dataclasses import dataclass, field
from typing import Any

from platform_assets.streaming.formats.frame import find_schema_id
from platform_assets.streaming.register.sought_names import Sought
from platform_assets.streaming.register.words_in_bytes import MOST_ENCODINGS

# A larger value is searched as a text: as an object in memory JSON takes many times its bytes.
_MOST_BYTES_READ = 1 << 20

WHO = "user|customer|visitor|member|account|client|shopper"
SUFFIX = "ids?|uid|uuid|guid|key|name|no|number|ref"
USER_WORD = rf"{WHO}|u_?id"
_USER_FIELD = re.compile(rf"(?:.*(?:{WHO})|u)(?:s?(?:{SUFFIX}))?")


class Members(list[tuple[str, Any]]):
    """A JSON object with every member that was written, those of the same name too."""


class Number(str):
    """A JSON number as it was written."""

    __slots__ = ()


@dataclass
class Content:
    """What a record is made of: `named` in fields that name users, other `values`, `texts` around and in them.

    `unread` are those that were to be JSON and are not. `opened` are values whose JSON has been added, `closed` are
    others in a registry's frame.
    """

    sought: Sought
    named: set[bytes] = field(default_factory=set)
    values: set[bytes] = field(default_factory=set)
    texts: list[bytes] = field(default_factory=list)
    unread: list[bytes] = field(default_factory=list)
    opened: list[bytes] = field(default_factory=list)
    closed: list[bytes] = field(default_factory=list)

    def add_form(self, value: bytes) -> bool:
        """Whether a value is another when it is unpacked, which is added."""
        form = self.sought.read_form(value)
        if form is None:
            self._add_closed(value)
            return False
        text = form.unpacked if form.json is None else form.json
        if (document := _parse_inner(text)) is not None:
            self.add("", document)
        else:
            self.unread.append(text)
        if form.json is None and document is None:
            self._add_closed(form.unpacked)
        elif not form.unpacked.endswith(text):
            self.opened.append(form.unpacked)
        return True

    def _add_closed(self, value: bytes) -> None:
        if find_schema_id(value) is not None:
            self.closed.append(value)

    def add(self, name: str, document: Any) -> None:
        """All values of a JSON document, which is the value of the field `name`."""
        left = [("", name, document, 0)]
        while left:
            parent, own, item, encodings = left.pop()
            if isinstance(item, Members):
                self.values.update(_encode(inner) for inner, _ in item)
                left += [(own, inner, value, encodings) for inner, value in item]
            elif isinstance(item, list):
                left += [(parent, own, value, encodings) for value in item]
            elif isinstance(item, bytes) and self.add_form(item):
                pass
            elif isinstance(item, (str, bytes)):
                text = item if isinstance(item, bytes) else _encode(item)
                inner = None if encodings == MOST_ENCODINGS else _parse_inner(text)
                # Whole too where it holds JSON: an id may be the text of a number in brackets, or in quotes.
                (self.named if text and is_user_field(parent, own, self.sought.fields) else self.values).add(text)
                if inner is not None:
                    left.append((parent, own, inner, encodings + 1))
                elif text.lstrip()[:1] in (b"{", b"["):
                    self.unread.append(text)
                elif not isinstance(item, Number):
                    self.texts.append(text)


def read_content(value: bytes, sought: Sought) -> Content:
    """What a key or a value of a Kafka record is made of, whatever its bytes."""
    content = Content(sought)
    if content.add_form(value):
        return content
    try:
        document = _parse(value) if len(value) <= _MOST_BYTES_READ else None
    except (ValueError, RecursionError):
        document = None
    if document is None:
        content.unread.append(value)
    else:
        content.add("", document)
    return content


def _parse(value: bytes) -> Any:
    return json.loads(value, object_pairs_hook=Members, parse_int=Number, parse_float=Number, strict=False)


def _parse_inner(text: bytes) -> Any:
    """The JSON that a text holds; None where it holds none."""
    begin = text.removeprefix(codecs.BOM_UTF8).lstrip()[:1]
    # A zero byte: UTF-16 or UTF-32, which JSON may be written in.
    if (begin not in (b"{", b"[", b'"') and b"\0" not in text[:4]) or len(text) > _MOST_BYTES_READ:
        return None
    try:
        return _parse(text)
    except (ValueError, RecursionError):
        return None


def _encode(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


@functools.lru_cache(maxsize=10_000)
def is_user_field(parent: str, name: str, fields: frozenset[str]) -> bool:
    """Whether a field's value is a user: `userId`, and `id` within `user`."""
    spelt = (re.sub(r"[\W_]", "", text).lower() for text in (name, parent + name))
    return name in fields or f"{parent}.{name}" in fields or any(map(_USER_FIELD.fullmatch, spelt))
