"""What changed between two versions of a schema that a registry calls compatible, and readers do not agree on.

Avro resolves types and not logical types: a time in milliseconds may become one in microseconds, and a decimal may get
another scale. Readers that go by their own schema then give old values a new meaning. Headrace reads each value by its
writer's schema. Other readers of the topic may not.
"""

from __future__ import annotations

from collections.abc import Iterator

from platform_assets.streaming.formats.shapes import Shape

_MOMENTS = ("timestamp", "local_timestamp", "time")


def find_changed_meanings(old: Shape, new: Shape) -> list[str]:
    """The fields whose written numbers mean something else in the new version, in words."""
    return list(_compare(old, new, "", set()))


def _compare(old: Shape, new: Shape, place: str, seen: set[tuple[int, int]]) -> Iterator[str]:
    # A type that many fields have is compared once: types of types of types may be the same a million times.
    if (pair := (id(old), id(new))) in seen:
        return
    if old.kind in ("record", "union", "list", "map"):
        seen.add(pair)
    if old.kind == "union" or new.kind == "union":
        yield from _compare_branches(old, new, place, seen)
        return
    if _is_changed(old, new):
        yield f"{place or 'the value'} was {old.say()} and is {new.say()}"
    for member in old.members:
        if (other := new.find(member.name)) is not None:
            yield from _compare(member.shape, other.shape, f"{place}.{member.name}".removeprefix("."), seen)
    if old.item is not None and new.item is not None and old.kind == new.kind:
        yield from _compare(old.item, new.item, f"{place}[]", seen)


def _compare_branches(old: Shape, new: Shape, place: str, seen: set[tuple[int, int]]) -> Iterator[str]:
    """Each old branch with the new one that its values are read as: that of the same kind, or the only one."""
    others = new.choices
    for branch in old.choices:
        same = [other for other in others if other.kind == branch.kind and other.name == branch.name]
        other = same[0] if same else others[0] if len(others) == 1 else None
        if other is not None:
            yield from _compare(branch, other, place, seen)


def _is_changed(old: Shape, new: Shape) -> bool:
    if {old.kind, new.kind} <= {*_MOMENTS, "int", "date"}:
        return old.kind != new.kind or old.unit != new.unit
    if {old.kind, new.kind} <= {"decimal", "bytes"}:
        return old.kind != new.kind or (old.digits or (0, 0))[1] != (new.digits or (0, 0))[1]
    return {old.kind, new.kind} <= {"bytes", "uuid", "duration"} and old.kind != new.kind
