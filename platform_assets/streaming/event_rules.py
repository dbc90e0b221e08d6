"""What of a contract is the sender's own, whatever the topic: its zone, the texts that stand for no id and nobody."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from string import ascii_lowercase, ascii_uppercase
from zoneinfo import ZoneInfo

# What clients send where they have no id: of databases, of JavaScript, of pandas, of SQL dumps, of UUID libraries.
_NIL_UUID = "00000000-0000-0000-0000-000000000000"
PLACEHOLDER_IDS = (
    "null", "undefined", "none", "nan", "nil", "\\N", "0", "(null)", "<null>", "n/a", _NIL_UUID,
    f"{{{_NIL_UUID}}}", _NIL_UUID.replace("-", ""),
)  # fmt: skip
# And in place of a user that they do not know.
ANONYMOUS_USERS = (*PLACEHOLDER_IDS, "guest", "anonymous", "anon", "unknown", "(not set)")

# Of Unicode's categories Zs, Zl, Zp, Cc and Cf what a keyboard, a terminal, a web page or a converter leaves in a text.
_BLANK_RANGES = (
    (0x00, 0x20), (0x7F, 0xA0), (0xAD, 0xAD), (0x1680, 0x1680), (0x180E, 0x180E), (0x2000, 0x200F), (0x2028, 0x202F),
    (0x205F, 0x2064), (0x2066, 0x206F), (0x3000, 0x3000), (0xFEFF, 0xFEFF), (0xFFF9, 0xFFFB),
)  # fmt: skip
BLANKS = "".join(chr(code) for first, last in _BLANK_RANGES for code in range(first, last + 1))
"""Characters that make no id: an id of them alone is empty, and around an id they do not count."""


@dataclass(frozen=True)
class EventRules:
    """Texts are compared without surrounding blanks and the case of ASCII letters; an empty one is a placeholder."""

    time_zone: str = "UTC"
    placeholder_ids: frozenset[str] = field(default_factory=lambda: fold(PLACEHOLDER_IDS))
    anonymous_users: frozenset[str] = field(default_factory=lambda: fold(ANONYMOUS_USERS))

    @cached_property
    def zone(self) -> ZoneInfo:
        """The zone of timestamps without an offset."""
        return ZoneInfo(self.time_zone)

    def is_placeholder(self, event_id: str) -> bool:
        """Whether the text is no event id: events that share it are not the same event."""
        return fold_text(event_id) in self.placeholder_ids

    def is_anonymous(self, user_id: str) -> bool:
        """Whether the text stands for many users, or for nobody."""
        return fold_text(user_id) in self.anonymous_users


def fold(texts: tuple[str, ...]) -> frozenset[str]:
    """The texts as `EventRules` compares them, with the empty one."""
    return frozenset({"", *map(fold_text, texts)})


def fold_text(text: str) -> str:
    """A text without surrounding blanks, its ASCII letters small; others stay, as Arrow's kernel leaves them."""
    return text.strip(BLANKS).translate(_SMALL)


_SMALL = str.maketrans(ascii_uppercase, ascii_lowercase)
