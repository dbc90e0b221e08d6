"""What of the event contract is a shop's own: its zone, the texts that stand for no id and for nobody, its amounts."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from zoneinfo import ZoneInfo

# What clients send where they have no id: of databases, of JavaScript, of pandas, of SQL dumps, of UUID libraries.
PLACEHOLDER_IDS = ("null", "undefined", "none", "nan", "nil", "\\N", "0", "00000000-0000-0000-0000-000000000000")
# And in place of a user that they do not know.
ANONYMOUS_USERS = (*PLACEHOLDER_IDS, "guest", "anonymous", "anon", "unknown", "(not set)")

BLANKS = " \t\n\r\f\v\0\u00a0\u200b\ufeff"
"""Characters that make no id: an id of them alone is empty, and around an id they do not count."""


@dataclass(frozen=True)
class EventRules:
    """Texts are compared without case and surrounding blanks; an empty one is always a placeholder.

    `revenue_from_price`: a purchase that is sent without revenue has price x quantity.
    """

    time_zone: str = "UTC"
    placeholder_ids: frozenset[str] = field(default_factory=lambda: fold(PLACEHOLDER_IDS))
    anonymous_users: frozenset[str] = field(default_factory=lambda: fold(ANONYMOUS_USERS))
    revenue_from_price: bool = False

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
    """A text without surrounding blanks, and in small letters where they are ASCII."""
    stripped = text.strip(BLANKS)
    return stripped.lower() if stripped.isascii() else stripped
