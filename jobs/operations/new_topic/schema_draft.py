"""What is to be written of a writer's schema: a topic's fields with their types and roles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jobs.operations.new_topic.draft import (
    LONGEST_GROUP,
    WINDOW_COLUMNS,
    Draft,
    DraftField,
    describe,
    explain_key,
    is_plain,
)
from jobs.operations.new_topic.field_names import name_class, name_fields, split_name
from jobs.operations.new_topic.field_types import FieldType
from jobs.operations.new_topic.shape_roles import (
    Members,
    TimeMember,
    find_group_member,
    find_id_member,
    find_subject_member,
    find_type_member,
    rank_times,
)
from jobs.operations.new_topic.shape_types import ShapeTypes, is_required, read_description
from platform_assets.errors import UsageError
from platform_assets.streaming.formats.shapes import Member, Shape

_BY_HAND = "write the file by hand (docs/adding-a-topic.md#by-hand)"


def draft_of_shape(
    name: str, kafka_topic: str, record: Shape, subjects: tuple[str, ...], *, absent_is_usual: bool = False
) -> Draft:
    """Infers the topic from the shape of its records. `subjects` are those of the registry besides `<topic>-value`.

    `absent_is_usual`: the format has no moments that are always there (Protobuf). Raises `UsageError` where no field
    surely says when a record happened.
    """
    notes = [explain_key(each.name) for each in record.members if not is_plain(each.name)]
    plain = {each.name: each for each in record.members if is_plain(each.name)}
    members = _lift_roles(plain, absent_is_usual)
    time = _choose_time(members, absent_is_usual, notes)
    types = ShapeTypes({record_class := name_class(name, ())})
    typed = {key: of for key, member in members.items() if (of := _find_type(key, member, time, types)) is not None}
    names = name_fields(typed, True, time.key)
    kept = {key: members[key] for key in typed}
    subject = find_subject_member(kept)
    words = [split_name(name), split_name(record.name.rsplit(".", 1)[-1])]
    event_id = find_id_member({key: each for key, each in kept.items() if key != time.key}, words, subject)
    event_type = find_type_member({key: each for key, each in kept.items() if key not in (time.key, subject, event_id)})
    group = _find_group(kept, event_type, names, (time.key, subject, event_id))
    fields = [
        DraftField(key, names[key], of, is_required(members[key]) or key == time.key, _describe(key, members[key]))
        for key, of in typed.items()
    ]
    fields.sort(key=lambda each: not each.is_required)
    assert time.found is not None, "The chosen time has a unit."
    return Draft(
        name, kafka_topic, record_class, tuple(fields), tuple(types.classes), names[time.key], time.found,
        (names[event_id],) if event_id else (), subject and names[subject], event_type and names[event_type],
        group and names[group], None, (*notes, *types.notes), subjects,
    )  # fmt: skip


def _lift_roles(members: Members, absent_is_usual: bool) -> Members:
    """The fields, where one that tells time or person lies in a record only: with the members of that record."""

    def has_time(found: Members) -> bool:
        return bool(rank_times(found, absent_is_usual))

    def has_subject(found: Members) -> bool:
        return find_subject_member(found) is not None

    for has_role in (has_time, has_subject):
        if has_role(members):
            continue
        for key, member in members.items():
            inside = _list_inside(key, member, absent_is_usual)
            if has_role(inside):
                members = {name: each for old, at in members.items() for name, each in _expand(old, at, key, inside)}
                break
    return members


def _list_inside(key: str, member: Member, absent_is_usual: bool) -> Members:
    """The members of a record that is always there, and whose keys a topic's file can name; none for others."""
    inside = member.shape.members
    if member.shape.kind != "record" or not all(is_plain(each.name) for each in inside):
        return {}
    return {} if member.may_be_absent and not absent_is_usual else {f"{key}.{each.name}": each for each in inside}


def _expand(old: str, at: Member, key: str, inside: Members) -> list[tuple[str, Member]]:
    return list(inside.items()) if old == key else [(old, at)]


def _choose_time(members: Members, absent_is_usual: bool, notes: list[str]) -> TimeMember:
    """The time of the record. Raises `UsageError`, with the candidates, where it cannot be told."""
    ranked = rank_times(members, absent_is_usual)
    if not ranked:
        held = ", ".join(members) or "it has none"
        raise UsageError(
            f"No field of the schema says when a record happened ({held}): a row has a day. Have the schema say it, "
            f"as a timestamp, or {_BY_HAND}."
        )
    best = ranked[0]
    if best.found is None:
        named = ", ".join(each.key for each in ranked)
        raise UsageError(
            f"{best.key} may say when a record happened, and the schema does not say in what it is counted "
            f"(candidates: {named}). Say it in the schema, as a timestamp or by a name such as {best.key}_ms, or "
            f"{_BY_HAND}."
        )
    if others := [each.key for each in ranked[1:]]:
        notes.append(f"{', '.join(others)} may say when it happened, too: look whether {best.key} is right.")
    if not is_required(members[best.key]):
        notes.append(f"{best.key} may be absent or null by the schema: a record without it is quarantined.")
    if not best.is_certain and best.found.unit is None:
        notes.append(f"{best.key} is a text: taken for ISO 8601. Give EventTime a format where it is not.")
    return best


def _find_type(key: str, member: Member, time: TimeMember, types: ShapeTypes) -> FieldType | None:
    if key == time.key:
        return FieldType(time.python, time=time.found)
    return types.find(member.shape, key, is_top=True)


def _find_group(
    kept: Members, event_type: str | None, names: Mapping[str, str], left_out: Sequence[str | None]
) -> str | None:
    """The key of the field that the first stream counts by: one that its table and its name have room for."""
    fitting = {
        key: each
        for key, each in kept.items()
        if key not in left_out and names[key] not in WINDOW_COLUMNS and len(names[key]) <= LONGEST_GROUP
    }
    return event_type if event_type in fitting else find_group_member(fitting)


def _describe(key: str, member: Member) -> str:
    return read_description(member) or describe(key)
