"""Whether raw data names a user: surely, perhaps, or not. One rule for old rows, for arrivals and for the proof.

The register of forgotten users has only hashes, so the names are not known. A record is taken apart into all that
could be a name, and `Sought.holds` judges each. Bounded by the record's size: JSON within JSON is read as often
as it is encoded, and each level is shorter than the one around it.

An id that is short enough to be a number of something else (`is_weak`) counts only where a user is named: in a field
such as `user_id` or the one that a topic has for it, or behind such a word in a text. Else a user "7" would take every
record with seven of a thing along.
"""

from __future__ import annotations

import codecs
import functools
import itertools
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from platform_assets.streaming.formats.frame import find_schema_id
from platform_assets.streaming.formats.json_forms import ReadForm, find_no_form, find_read_form
from platform_assets.streaming.formats.registered_schema import SchemaSource
from platform_assets.streaming.register.words_in_bytes import (
    MOST_ENCODINGS,
    find_packed,
    find_words,
    find_words_at,
    unescape,
)
from platform_assets.streaming.topic_spec import Topic

if TYPE_CHECKING:
    import pyarrow as pa

# A larger value is searched as a text: as an object in memory JSON takes many times its bytes.
_MOST_BYTES_READ = 1 << 20
# A record of a few MiB can be made of lengths: each text behind one is hashed, a microsecond each. Ten thousand texts
# are more than a record has; what has more may be anybody's.
_MOST_PACKED = 10_000
_WEAK_BYTES, _WEAK_DIGITS = 3, 8

_WHO = "user|customer|visitor|member|account|client|shopper"
_SUFFIX = "ids?|uid|uuid|guid|key|name|no|number|ref"
_USER_WORD = rf"{_WHO}|u_?id"
_USER_FIELD = re.compile(rf"(?:.*(?:{_WHO})|u)(?:s?(?:{_SUFFIX}))?")


class Mention(IntEnum):
    """How a record names a user: not, so that a person must look whether it is of the user, or as the one it is of."""

    NONE = 0
    UNSURE = 1
    CERTAIN = 2


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


def judge_record(
    key: bytes | None, value: bytes | None, sought: Sought, headers: Iterable[tuple[str, bytes]] = ()
) -> Mention:
    """How a Kafka record, of whatever bytes, names the user.

    CERTAIN: its key is the user; a field that names a user has the value, at any depth and in JSON however often
    encoded; any other value or field's name is the user's, whole; or it is no JSON and has the name as a word. UNSURE:
    the last two where another user is named, and a name that is a word in a longer text. A packed value
    is judged by its form; in a registry's frame without one, a text that stands behind its length is a word too.
    `headers` are judged as fields of a record of their own.
    """
    if key is not None and sought.holds(key):
        return Mention.CERTAIN
    parts = (_judge(_read(part, sought), sought) for part in (key, value) if part)
    return max((judge_fields(headers, sought), *parts))


def list_headers(headers: Iterable[Mapping[str, Any]] | None) -> list[tuple[str, bytes]]:
    """Names and values of a record's headers, as `judge_record` takes them; a header without a value names nobody."""
    return [(header["key"], header["value"]) for header in headers or () if header["value"] is not None]


def judge_fields(fields: Iterable[tuple[str, str | bytes]], sought: Sought) -> Mention:
    """How the fields of a row (names and values that are texts) name the user: as those of a JSON object."""
    content = _Content(sought)
    content.add("", _Members(fields))
    return _judge(content, sought)


def find_suspects(texts: pa.Array, sought: Sought, column: str = "", *, is_raw: bool = False) -> pa.BooleanArray:
    """Which of these texts (binary, of the column of this name) may name one user: all that do, and few others.

    `is_raw`: they are keys or values of Kafka records.
    """
    import pyarrow.compute as pc

    if is_raw and sought.is_packed:
        return pc.is_valid(texts)
    # What is escaped, or in another encoding, is found by reading it.
    has = [pc.match_substring(texts, part) for part in (sought.needle, b"\\", b"\0")]
    found = functools.reduce(pc.or_, has)
    if is_weak(sought.needle) and not _is_user_field("", column, sought.fields):
        # Of a path the last name stands next to the value.
        words = "|".join([_USER_WORD, *(re.escape(name.rpartition(".")[2]) for name in sorted(sought.fields))])
        has_word = pc.match_substring_regex(texts, words, ignore_case=True)
        # A value in a registry's frame may have no names of fields.
        found = pc.and_(found, pc.or_(has_word, pc.starts_with(texts, b"\0")))
    return pc.fill_null(found, False)


class _Members(list[tuple[str, Any]]):
    """A JSON object with every member that was written, those of the same name too."""


class _Number(str):
    """A JSON number as it was written."""

    __slots__ = ()


@dataclass
class _Content:
    """What a record is made of: `named` in fields that name users, other `values`, `texts` around and in them.

    `unread` are those that were to be JSON and are not. `opened` are raw values whose form has been added, `closed` are
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
            self.closed += [value] if find_schema_id(value) is not None else []
            return False
        document = _parse_inner(form)
        if document is None:
            self.unread.append(form)
        else:
            self.add("", document)
        self.opened.append(value)
        return True

    def add(self, name: str, document: Any) -> None:
        """All values of a JSON document, which is the value of the field `name`."""
        left = [("", name, document, 0)]
        while left:
            parent, own, item, encodings = left.pop()
            if isinstance(item, _Members):
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
                (self.named if text and _is_user_field(parent, own, self.sought.fields) else self.values).add(text)
                if inner is not None:
                    left.append((parent, own, inner, encodings + 1))
                elif text.lstrip()[:1] in (b"{", b"["):
                    self.unread.append(text)
                elif not isinstance(item, _Number):
                    self.texts.append(text)


def _read(value: bytes, sought: Sought) -> _Content:
    content = _Content(sought)
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
    return json.loads(value, object_pairs_hook=_Members, parse_int=_Number, parse_float=_Number, strict=False)


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
def _is_user_field(parent: str, name: str, fields: frozenset[str]) -> bool:
    """Whether a field's value is a user: `userId`, and `id` within `user`."""
    spelt = (re.sub(r"[\W_]", "", text).lower() for text in (name, parent + name))
    return name in fields or f"{parent}.{name}" in fields or any(map(_USER_FIELD.fullmatch, spelt))


@functools.cache
def _named_in_text(fields: frozenset[str]) -> re.Pattern[bytes]:
    """What stands before a user's name in a text."""
    own = "".join(rf"|\b{re.escape(name)}" for name in sorted(fields))
    return re.compile(
        rf"(?i)(?:(?:{_WHO})(?:[_.\- ]?(?:{_SUFFIX}))?|\bu_?id{own})[\s\"'\\:=>\[(]+".encode()
    )  # fmt: skip


def _judge(content: _Content, sought: Sought) -> Mention:
    if any(map(sought.holds, content.named)):
        return Mention.CERTAIN
    whole = Mention.UNSURE if content.named else Mention.CERTAIN
    if any(sought.holds(value) for value in content.values if not is_weak(value)):
        return whole
    inside = _judge_text(b"\0".join(content.texts), Mention.UNSURE, sought)
    unread = max((_judge_text(text, Mention.CERTAIN, sought) for text in content.unread), default=Mention.NONE)
    closed = max((_judge_packed(value, sought) for value in content.closed), default=Mention.NONE)
    # Bytes within the JSON form are base64: who reads the form alone passes over names in them.
    hidden = any(_judge_packed(each, sought) or _judge_text(each, Mention.UNSURE, sought) for each in content.opened)
    return max(min(inside, whole), unread, closed, Mention.UNSURE if hidden else Mention.NONE)


def _judge_packed(value: bytes, sought: Sought) -> Mention:
    if sought.needle not in value:
        return Mention.NONE
    texts = list(itertools.islice(find_packed(value, sought.lengths), _MOST_PACKED + 1))
    if any(sought.holds(text) for text in texts if not is_weak(text)):
        return Mention.CERTAIN
    return Mention.UNSURE if len(texts) > _MOST_PACKED else Mention.NONE


def _judge_text(text: bytes, of_word: Mention, sought: Sought) -> Mention:
    """`of_word`: what a name means that stands there as a word, and no other user is named."""
    found = Mention.NONE
    for spelling in unescape(text):
        if sought.needle in spelling:
            named_at = sorted({match.end() for match in _named_in_text(sought.fields).finditer(spelling)})
            if any(any(map(sought.holds, find_words_at(spelling, at, sought.lengths))) for at in named_at):
                if of_word == Mention.CERTAIN:
                    return Mention.CERTAIN
                # A sentence within a record that can be read: it may speak of somebody.
                found = Mention.UNSURE
            if any(sought.holds(word) for word in find_words(spelling, sought.lengths) if not is_weak(word)):
                found = max(found, Mention.UNSURE if named_at else of_word)
    return found
