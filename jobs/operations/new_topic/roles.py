"""Which fields play a part: when it happened, what a repetition is known by, whose record it is, of which type."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from jobs.operations.new_topic.field_names import split_name
from jobs.operations.new_topic.places import Place
from jobs.operations.new_topic.times import WORDS, FoundTime, find_number_time, find_text_time, is_date, is_recent
from platform_assets.streaming.event_rules import EventRules
from platform_assets.streaming.record_types import INT64_MAX

Fields: TypeAlias = Mapping[str, Place]

OTHER_TIME, BY_SAMPLES = 5, 3
_FIRST_TIMES = (["event", "time"], ["eventtime"], ["event", "timestamp"], ["occurred", "at"], ["event", "ts"])
_TIMES = (["timestamp"], ["ts"], ["time"], ["at"], ["datetime"], ["date"], ["when"])
# When something else happened to the record, or will.
_OTHER_TIMES = {"updated", "modified", "expires", "expiry", "birth", "deleted", "received", "processed", "ingested",
                "valid", "due", "until", "end", "ended", "last"}  # fmt: skip
PEOPLE = {"user", "customer", "account", "client", "member", "player", "patient", "subscriber", "visitor", "person",
           "buyer", "passenger", "employee", "student", "guest"}  # fmt: skip
_PERSON_IDS = {f"{each}id" for each in PEOPLE} | {"uid", "username", "login"}
_ID_WORDS = {"id", "uuid", "guid"}
_FIRST_IDS = (["event", "id"], ["id"], ["uuid"], ["guid"], ["message", "id"], ["record", "id"], ["eventid"])
# What many records share, whatever a sample says.
_SHARED = {"session", "device", "product", "category", "parent", "trace", "correlation", "group", "tenant", "merchant",
           "card", "store", "sensor", "host", "process", "item", "sku", "shop", "campaign"}  # fmt: skip
_PARTS = {"line", "seq", "sequence", "index", "position", "number", "no", "offset", "part"}
TYPES = (["event", "type"], ["event"], ["type"], ["event", "name"], ["kind"], ["action"], ["operation"], ["op"],
          ["method"], ["level"])  # fmt: skip
# Below this many different records an id that is unique among them may be so by chance.
_ENOUGH = 20
_UUID = re.compile(r"[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}")
_MOST_TYPES = 50
GROUPS = ("status", "state", "category", "country", "channel", "type", "kind", "level", "method", "region", "platform",
           "currency", "program", "host")  # fmt: skip


def find_time(fields: Fields) -> tuple[str, FoundTime] | None:
    """The required field that says when it happened, best named first; None where no field does."""
    ranked = []
    for order, (key, place) in enumerate(fields.items()):
        if place.is_required and (found := _read_time(place)) is not None:
            ranked.append((rank_time(split_name(key)), order, key, found))
    return min(ranked)[2:] if ranked else None


def find_subject(fields: Fields) -> str | None:
    """The field that says whose record it is."""
    ranked = []
    for order, (key, place) in enumerate(fields.items()):
        if (rank := rank_subject(split_name(key))) is not None and _is_id(place):
            ranked.append((rank, order, key))
    return min(ranked)[2] if ranked else None


def find_ids(fields: Fields, records: Sequence[bytes], topic: str, subject: str | None) -> tuple[str, ...]:
    """The field that each different record has a value of its own in; else fields that have one together; else none."""
    different = len(set(records))
    ranked = []
    for order, (key, place) in enumerate(fields.items()):
        is_uuid = place.json_types.keys() == {"string"} and all(map(_UUID.fullmatch, place.values))
        rank = rank_id(split_name(key), split_name(topic), is_uuid)
        if key != subject and rank is not None and _is_id(place) and (rank < 2 or different >= _ENOUGH):
            ranked.append((rank, order, key))
    for _, _, key in sorted(ranked):
        is_placeholder = EventRules().is_placeholder
        if _are_unique([fields[key]], records) and not any(map(is_placeholder, fields[key].values)):
            return (key,)
    if different < _ENOUGH or any(split_name(key) == ["event", "id"] for key in fields):
        return ()
    return next((found for found in _pair_up(fields) if _are_unique([fields[key] for key in found], records)), ())


def find_type(fields: Fields) -> str | None:
    """The field of the records' types: a text with few different values, named as one."""
    named = [key for words in TYPES for key in fields if split_name(key) == words]
    return next((key for key in named if _has_few(fields[key])), None)


def find_group(fields: Fields, event_type: str | None, left_out: Sequence[str | None]) -> str | None:
    """The field to count records by: of their types, else of few different values, best named first."""
    if event_type is not None:
        return event_type
    ranked = []
    for order, (key, place) in enumerate(fields.items()):
        if key in left_out or not _has_few(place) or len(place.counts) < 2:
            continue
        words = split_name(key)
        name = next((rank for rank, word in enumerate(GROUPS) if word in words[-1:]), len(GROUPS))
        is_boolean = "boolean" in place.json_types
        ranked.append((name, is_boolean, not place.is_required, len(place.counts), order, key))
    return min(ranked)[-1] if ranked else None


def _read_time(place: Place) -> FoundTime | None:
    """How the values say moments; None too where most of them lie before 2000, as birthdays do."""
    kinds = place.json_types.keys()
    if kinds == {"string"}:
        found = find_text_time(place.values)
        recent = sum(is_recent(text, found) for text in place.values) if found is not None else 0
        return found if recent * 2 > len(place.values) else None
    return find_number_time(place.values) if kinds == {"number"} else None


def rank_subject(words: list[str]) -> int | None:
    """How well a name is that of a person's id: 0 best, None not at all."""
    is_person = words[-1:] and (words[-1] in PEOPLE | _PERSON_IDS)
    has_id = len(words) > 1 and words[-2] in PEOPLE and words[-1] in {*_ID_WORDS, "key", "no", "number"}
    return int(not (has_id or words[-1] in _PERSON_IDS)) if is_person or has_id else None


def rank_time(words: list[str]) -> int:
    """How well a name is that of an event's time: 0 best, `OTHER_TIME` for the time of something else."""
    if set(words) & _OTHER_TIMES:
        return OTHER_TIME
    if words in _FIRST_TIMES or words[-2:] in _FIRST_TIMES:
        return 0
    if words in _TIMES:
        return 1
    if not set(words) & WORDS:
        return 6
    return 2 if words[0] in ("created", "occurred") else 3


def rank_id(words: list[str], topic: list[str], is_uuid: bool) -> int | None:
    """How well a name is that of a record's own id: 0 best, `BY_SAMPLES` and worse need values; None not at all."""
    if not words or set(words) & _SHARED:
        return None
    if words in _FIRST_IDS:
        return 0
    if words[-1] in _ID_WORDS and "".join(words[:-1]) in ("".join(topic), "".join(topic).removesuffix("s")):
        return 1
    if is_uuid:
        return 2
    return BY_SAMPLES if words[-1] in _ID_WORDS and not set(words) & PEOPLE else None


def _is_id(place: Place) -> bool:
    """Whether it is in each record, a text or a whole number."""
    if not place.is_required or not place.json_types.keys() <= {"string", "number"} or len(place.json_types) > 1:
        return False
    if "number" in place.json_types:
        return all(value.lstrip("-").isdigit() and abs(int(value)) <= INT64_MAX for value in place.values)
    return not all(map(is_date, place.values)) and find_text_time(place.values) is None


def _are_unique(places: Sequence[Place], records: Sequence[bytes]) -> bool:
    """Whether different records differ in these fields. A record may be repeated byte for byte."""
    seen: dict[tuple[str, ...], bytes] = {}
    for record, *values in zip(records, *(place.values for place in places), strict=True):
        if seen.setdefault(tuple(values), record) != record:
            return False
    return True


def _pair_up(fields: Fields) -> Iterator[tuple[str, ...]]:
    """Fields that may be an id together: one or two that name a thing, and the number of a part of it."""
    ids = [key for key, place in fields.items() if _is_id(place)]
    parts = [key for key in ids if split_name(key)[-1:] and split_name(key)[-1] in _PARTS]
    things = [key for key in ids if split_name(key)[-1:] and split_name(key)[-1] in _ID_WORDS | {"number", "no"}]
    for count in (1, 2):
        for chosen in itertools.combinations(things, count):
            yield from ((*chosen, part) for part in parts if part not in chosen)


def _has_few(place: Place) -> bool:
    if not place.counts or place.json_types.keys() not in ({"string"}, {"boolean"}):
        return False
    most = min(_MOST_TYPES, max(1, len(place.seen) // 3))
    return len(place.counts) <= most
