"""Words in bytes of whatever kind: what a text is without its JSON escapes, and which of its parts stand alone.

A word goes on with ASCII letters, digits, `_` and `-`, and ends elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import numpy as np

from platform_assets.streaming.formats.varint import write_varint, write_zigzag

MOST_ENCODINGS = 32
"""Each JSON encoding of a text doubles the backslashes in it: 16 MiB have room for 24."""

_ESCAPED = tuple((b"\\" + bytes([sign]), b" " if sign in b"ntrbf" else bytes([sign])) for sign in b'ntrbf"/')
_ESCAPED_UNICODE = re.compile(rb"(?:\\u[0-9a-fA-F]{4})+")
_WORD = re.compile(rb"[\w-]+")
_IS_WORD_BYTE = tuple(_WORD.fullmatch(bytes([byte])) is not None for byte in range(256))
# A register of many users has names of fifty lengths, and a MiB of braces has a word of each length at each place: they
# took a minute. A MiB of text has a million places for them.
_MOST_PLACES = 2_000_000
_IS_WORD = np.array(_IS_WORD_BYTE)


class TooManyWordsError(Exception):
    """A text has so many places where a word of some length could stand that it is not looked at to its end."""


def unescape(text: bytes) -> Iterator[bytes]:
    """The text, and what it is without its JSON escapes, taken away as often as there are any."""
    yield text
    for _ in range(MOST_ENCODINGS):
        before = text
        if b"\\" in text:
            # This uses `replace`: a regular expression takes ten seconds for 16 MiB of backslashes.
            yield (text := text.replace(b"\\\\", b"\\"))
            for escaped, sign in _ESCAPED:
                text = text.replace(escaped, sign)
            yield (text := _ESCAPED_UNICODE.sub(_decode_unicode, text))
        if text == before:
            return


def _decode_unicode(match: re.Match[bytes]) -> bytes:
    text = bytes.fromhex(match[0].replace(b"\\u", b"").decode()).decode("utf-16-be", errors="surrogatepass")
    return text.encode(errors="surrogatepass")


def find_words(text: bytes, lengths: Iterable[int | None]) -> Iterator[bytes]:
    """All parts of these lengths in which a letter is and from which none goes on; those of unknown length: words.

    Raises `TooManyWordsError` when there are more places for them than are looked at.
    """
    places = 0
    data = np.frombuffer(text, np.uint8)
    is_edge = ~_IS_WORD[data]
    begins, ends = np.append(True, is_edge), np.append(is_edge, True)
    # Signs alone are no name: between them each place would be one, in 16 MiB of backslashes every byte.
    letters = np.append(0, np.cumsum(~is_edge | (data > 127), dtype=np.int32))
    for length in lengths:
        if length is None:
            yield from {match[0] for match in _WORD.finditer(text)}
        elif 0 < length <= len(text):
            is_named = begins[:-length] & ends[length:] & (letters[length:] > letters[:-length])
            starts = np.flatnonzero(is_named)
            if (places := places + len(starts)) > _MOST_PLACES:
                raise TooManyWordsError
            yield from {text[start : start + length] for start in starts.tolist()}


def find_packed(value: bytes, lengths: Iterable[int | None]) -> Iterator[bytes]:
    """All parts of these lengths behind their own length, as Avro and Protobuf write a text; unknown lengths: none.

    Next to a text stands no edge of a word there: the length 36 is the letter H in Avro, and the next one's follows.
    """
    for length in (length for length in lengths if length):
        for prefix in (write_varint(length), write_zigzag(length)):
            at = value.find(prefix)
            while 0 <= at <= len(value) - len(prefix) - length:
                start = at + len(prefix)
                yield value[start : start + length]
                at = value.find(prefix, at + 1)


def find_words_at(text: bytes, start: int, lengths: Iterable[int | None]) -> Iterator[bytes]:
    """Finds the words of `find_words` that begin at this place."""
    for length in lengths:
        if length is None:
            yield from (match[0] for match in [_WORD.match(text, start)] if match)
            continue
        end = start + length
        # A table of plain Python: numpy takes 15 us to look at one byte, and there are starts times lengths of them.
        if end == len(text) or (end < len(text) and not _IS_WORD_BYTE[text[end]]):
            yield text[start:end]
