"""A limit for what a message becomes: few bytes may stand for many members, as absent fields are given by default."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError

from platform_assets.streaming.formats.protobuf_types import MessageTypes
from platform_assets.streaming.formats.reader import UndecodableError

# A list of objects with 200 fields takes two bytes an object, and ten kilobytes of memory each when it is read: a value
# of a megabyte would take gigabytes, and Spark's worker would be killed for it. Two million members take some 200 MB.
MOST_MEMBERS = 2_000_000


class MemberLimit:
    """Refuses messages that would have too many members. Costs nothing where the bytes are too few for it."""

    def __init__(self, types: MessageTypes) -> None:
        self._types = types
        # An object needs two bytes at least: its field's number and its length.
        self._harmless_bytes = 2 * MOST_MEMBERS // (types.most_fields + 1)

    def check(self, message: Any, body: bytes) -> None:
        """Raises `UndecodableError` for a message that has too many members."""
        if len(body) > self._harmless_bytes and self._count(message) > MOST_MEMBERS:
            raise UndecodableError(f"the value has more than {MOST_MEMBERS} members")

    def _count(self, message: Any) -> int:
        """How many members the plain value has, in the messages of an `Any` too; counts no further than needed."""
        count, left = 0, [message]
        while left and count <= MOST_MEMBERS:
            each = left.pop()
            of = type(each)
            count += 1 + len(of.DESCRIPTOR.fields)
            if of.DESCRIPTOR.full_name == "google.protobuf.Any" and (sent := self._types.find_sent(each.type_url)):
                try:
                    left.append(self._types.find_class(sent.full_name).FromString(each.value))
                except DecodeError:
                    continue  # the reader refuses the value
            for field, value in of.ListFields(each):
                count += len(value) if field.is_repeated else 1
                if field.message_type is not None:
                    left += value if field.is_repeated else [value]
        return count
