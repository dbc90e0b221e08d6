"""What is to be written: a topic's fields with their types and roles, as the samples have them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from jobs.operations.new_topic.decimals import find_digits
from jobs.operations.new_topic.field_names import name_class, name_fields, split_name
from jobs.operations.new_topic.field_types import FieldType, RecordClass, TypeFinder
from jobs.operations.new_topic.places import Place, read_samples_fields
from jobs.operations.new_topic.roles import Fields, find_group, find_ids, find_subject, find_time, find_type
from jobs.operations.new_topic.samples import Samples
from jobs.operations.new_topic.times import SYSLOG_FORMAT, FoundTime
from platform_assets.errors import UsageError

# Values that go into the file as examples: few and short, and none of a field that names a person or a record.
_MOST_EXAMPLES, _LONGEST_EXAMPLE = 12, 30

LONGEST_GROUP = 30
"""The stream is named after the field."""
WINDOW_COLUMNS = ("window_start", "window_end", "record_count")
"""Columns that the stream's table has besides."""


@dataclass(frozen=True)
class DraftField:
    """A field: `key` is its place in JSON (dots lead deeper), `name` its attribute and column."""

    key: str
    name: str
    type: FieldType
    is_required: bool
    description: str
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Draft:
    """A topic to write. Roles are attributes. `group_by` is what its first stream counts records by.

    `subjects` is set where schemas of a registry write its values: those besides the one of the topic's name.
    """

    name: str
    kafka_topic: str
    record_class: str
    fields: tuple[DraftField, ...]
    classes: tuple[RecordClass, ...]
    time_field: str
    time: FoundTime
    event_id: tuple[str, ...]
    subject: str | None
    event_type: str | None
    group_by: str | None
    pattern: str | None
    notes: tuple[str, ...]
    subjects: tuple[str, ...] | None = None


def draft_topic(name: str, kafka_topic: str, samples: Samples) -> Draft:
    """Infers the topic from its samples. Raises `UsageError` where no field says when a record happened."""
    notes: list[str] = []
    fields = _lift_roles(_take_plain_keys(read_samples_fields(samples.values), notes))
    found_time = find_time(fields)
    if found_time is None:
        held = ", ".join(key for key in fields)
        raise UsageError(
            f"No field of the samples is a time in each of them ({held}): a row has a day. A topic needs one, in ISO "
            "8601, in a format of strptime or as a number since 1970. Take out the samples that have none. Where day "
            "and month cannot be told apart, write the file by hand (docs/adding-a-topic.md#by-hand)."
        )
    time_key, time = found_time
    subject, event_type = find_subject(fields), find_type(fields)
    ids = find_ids(fields, samples.raw, name, subject)
    finder = TypeFinder(samples.places, samples.hints, {record_class := name_class(name, ())})
    types = {key: _type_time(time) if key == time_key else finder.find(place, True) for key, place in fields.items()}
    typed = {key: of for key, of in types.items() if of is not None}
    names = name_fields(typed, True, time_key)
    left_out = (
        time_key,
        subject,
        *ids,
        *(key for key in typed if names[key] in WINDOW_COLUMNS or len(names[key]) > LONGEST_GROUP),
    )
    group = find_group({key: fields[key] for key in typed}, event_type, left_out)
    private = {time_key, subject, *ids}
    drafted = [
        DraftField(names[key] if samples.pattern else key, names[key], of, fields[key].is_required, describe(key),
                   () if key in private else _pick_examples(of, fields[key]))
        for key, of in typed.items()
    ]  # fmt: skip
    drafted.sort(key=lambda each: not each.is_required)
    return Draft(
        name, kafka_topic, record_class, tuple(drafted), tuple(finder.classes), names[time_key], time,
        tuple(names[key] for key in ids), subject and names[subject], event_type and names[event_type],
        group and names[group], _name_groups(samples.pattern, names), (*samples.notes, *notes, *finder.notes),
    )  # fmt: skip


def _take_plain_keys(fields: Fields, notes: list[str]) -> dict[str, Place]:
    """The fields whose keys a topic's file can name: there a dot leads into an object."""
    for key in (key for key in fields if not is_plain(key)):
        notes.append(explain_key(key))
    return {key: place for key, place in fields.items() if is_plain(key)}


def explain_key(key: str) -> str:
    """Why a topic's file cannot name the key."""
    why = "a dot, which in a topic's file leads into an object" if "." in key else "a character that none may have"
    return f"{key!r} has {why}: left out, its values stay in unknown_fields."


def is_plain(key: str) -> bool:
    """Whether a topic's file can name the key."""
    return bool(key) and key.isprintable() and not set(key) & set('."\\')


def _lift_roles(fields: dict[str, Place]) -> dict[str, Place]:
    """The fields, where one that tells time or person lies in an object only: with the members of that object."""
    for find in (find_time, find_subject):
        if find(fields) is not None:
            continue
        for key, place in list(fields.items()):
            is_object = place.json_types.keys() == {"object"} and all(map(is_plain, place.members))
            inside = {f"{key}.{each}": member for each, member in place.members.items()} if is_object else {}
            if place.is_required and find(inside) is not None:
                fields = {name: each for old, at in fields.items() for name, each in _expand(old, at, key, inside)}
                break
    return fields


def _expand(old: str, at: Place, key: str, inside: Mapping[str, Place]) -> list[tuple[str, Place]]:
    return list(inside.items()) if old == key else [(old, at)]


def _type_time(time: FoundTime) -> FieldType:
    """The time's own field stays as it is sent: a text, or a number."""
    return FieldType("float" if time.is_fraction else "int", time=time) if time.unit else FieldType("str", time=time)


def describe(key: str) -> str:
    """The words of a name, for a field of which nothing is said."""
    words = split_name(key) or ["field"]
    return " ".join(words).capitalize()


def _pick_examples(of: FieldType, place: Place) -> tuple[str, ...]:
    """The values of a field that has few short ones, each seen several times."""
    if of.python != "str" or of.time is not None or not place.counts or find_digits(place):
        return ()
    texts = sorted(place.counts)
    is_few = 2 <= len(texts) <= _MOST_EXAMPLES and len(texts) * 3 <= len(place.seen)
    is_short = all(text and len(text) <= _LONGEST_EXAMPLE and text.isprintable() for text in texts)
    return tuple(texts) if is_few and is_short else ()


def _name_groups(pattern: str | None, names: Mapping[str, str]) -> str | None:
    """The pattern with the fields' names; a group that no sample has is kept without one."""
    if pattern is None:
        return None

    def rename(match: re.Match[str]) -> str:
        return f"(?P<{names[match[1]]}>" if match[1] in names else "(?:"

    return re.sub(r"\(\?P<(\w+)>", rename, pattern)


def has_no_year(draft: Draft) -> bool:
    """Whether its times are those of RFC 3164, which have to be given a year."""
    return draft.time.format == SYSLOG_FORMAT
