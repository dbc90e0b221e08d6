"""Whether raw data names a user: surely, perhaps, or not. One rule for old rows, for arrivals and for the proof.

The register of forgotten users has only hashes, so the names are not known. A record is taken apart into all that
could be a name (`record_content`), and `Sought.holds` judges each.

An id that is short enough to be a number of something else (`is_weak`) counts only where a user is named: in a field
such as `user_id` or the one that a topic has for it, or behind such a word in a text. Else a user "7" would take every
record with seven of a thing along.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from platform_assets.streaming.register.record_content import (
    SUFFIX,
    USER_WORD,
    WHO,
    Content,
    Members,
    is_user_field,
    read_content,
)
from platform_assets.streaming.register.sought_names import Sought, is_weak
from platform_assets.streaming.register.words_in_bytes import (
    TooManyWordsError,
    find_packed,
    find_words,
    find_words_at,
    unescape,
)

if TYPE_CHECKING:
    import pyarrow as pa

# A record of a few MiB can be made of lengths: each text behind one is hashed, a microsecond each. Ten thousand texts
# are more than a record has; what has more may be anybody's.
_MOST_PACKED = 10_000


class Mention(IntEnum):
    """How a record names a user: not, so that a person must look whether it is of the user, or as the one it is of."""

    NONE = 0
    UNSURE = 1
    CERTAIN = 2


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
    parts = (_judge(read_content(part, sought), sought) for part in (key, value) if part)
    return max((judge_fields(headers, sought), *parts))


def list_headers(headers: Iterable[Mapping[str, Any]] | None) -> list[tuple[str, bytes]]:
    """Names and values of a record's headers, as `judge_record` takes them; a header without a value names nobody."""
    return [(header["key"], header["value"]) for header in headers or () if header["value"] is not None]


def judge_fields(fields: Iterable[tuple[str, str | bytes]], sought: Sought) -> Mention:
    """How the fields of a row (names and values that are texts) name the user: as those of a JSON object."""
    content = Content(sought)
    content.add("", Members(fields))
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
    if is_weak(sought.needle) and not is_user_field("", column, sought.fields):
        # Of a path the last name stands next to the value.
        words = "|".join([USER_WORD, *(re.escape(name.rpartition(".")[2]) for name in sorted(sought.fields))])
        has_word = pc.match_substring_regex(texts, words, ignore_case=True)
        # A value in a registry's frame may have no names of fields.
        found = pc.and_(found, pc.or_(has_word, pc.starts_with(texts, b"\0")))
    return pc.fill_null(found, False)


@functools.cache
def _named_in_text(fields: frozenset[str]) -> re.Pattern[bytes]:
    """What stands before a user's name in a text."""
    own = "".join(rf"|\b{re.escape(name)}" for name in sorted(fields))
    return re.compile(
        rf"(?i)(?:(?:{WHO})(?:[_.\- ]?(?:{SUFFIX}))?|\bu_?id{own})[\s\"'\\:=>\[(]+".encode()
    )  # fmt: skip


def _judge(content: Content, sought: Sought) -> Mention:
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


def _judge_words(text: bytes, sought: Sought) -> Mention:
    """CERTAIN where a word is a name; UNSURE where there are more words than are looked at."""
    try:
        is_named = any(sought.holds(word) for word in find_words(text, sought.lengths) if not is_weak(word))
    except TooManyWordsError:
        return Mention.UNSURE
    return Mention.CERTAIN if is_named else Mention.NONE


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
            found = max(found, min(_judge_words(spelling, sought), Mention.UNSURE if named_at else of_word))
    return found
