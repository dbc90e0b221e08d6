"""`headrace new-topic` from a schema: of a file, or the newest version of a registry's subject."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.operations.new_topic.draft import Draft
from jobs.operations.new_topic.project_files import load_topic, require_new, require_own_tables, write_files
from jobs.operations.new_topic.schema_draft import draft_of_shape
from jobs.operations.new_topic.schema_test import write_schema_test
from jobs.operations.new_topic.stream_file import name_stream
from jobs.operations.new_topic.topic_file import write_topic
from platform_assets.errors import UsageError
from platform_assets.streaming.formats.contract_fit import find_misfits
from platform_assets.streaming.formats.reader import SchemaError
from platform_assets.streaming.formats.readers import compile_schema
from platform_assets.streaming.formats.registered_schema import RegisteredSchema
from platform_assets.streaming.formats.shapes import Shape

if TYPE_CHECKING:
    from resources.registry.schema_registry import SchemaRegistry

_SUFFIX = "-value"
_WORDS = {"avro": "Avro", "protobuf": "Protobuf", "json": "JSON Schema"}


def fetch_newest(registry: SchemaRegistry, subject: str) -> tuple[RegisteredSchema, str]:
    """The newest schema of a subject, and what a message calls it. Raises `UsageError` where there is no such subject.

    Raises what the registry raises, too.
    """
    found = registry.newest(subject)
    if found is None:
        raise UsageError(f"The schema registry at {registry.access} has no subject {subject}. Check its name.")
    return found.schema, f"version {found.version} of {subject}"


def create_topic_of_schema(
    name: str,
    schema: RegisteredSchema,
    kafka_topic: str,
    say: Callable[[str], None],
    *,
    origin: str,
    subject: str = "",
    message: str = "",
) -> list[Path]:
    """Writes the files of the topic `name` into the project, and says what was decided. Returns their paths in it.

    `origin` is what a message calls the schema; `subject` is the registry's that has it, empty where a file has it.
    `message` is the type of the records, where the schema has several; empty: the first. Raises `UsageError` for a
    schema that cannot be used, a name that is taken, and a file that is there already: then nothing is written.
    """
    kafka_topic = kafka_topic or _name_kafka_topic(name, subject)
    require_new(name, kafka_topic)
    record, others = choose_record(list_records(schema, origin), message, origin)
    subjects = () if subject in ("", f"{kafka_topic}{_SUFFIX}") else (subject,)
    draft = draft_of_shape(name, kafka_topic, record, subjects, absent_is_usual=schema.format == "protobuf")
    text = write_topic(draft, "See docs/adding-a-topic.md.")
    topic = load_topic(text)
    require_own_tables(topic, name_stream(draft))
    if misfits := find_misfits(record, topic):
        raise UsageError(f"No contract is found for {origin}: {misfits[0]}. Write the file by hand.")
    written = write_files(draft, text, write_schema_test(name, schema, record.name))
    say(f"{origin} is a schema in {_WORDS[schema.format]}, of {record.name or 'a record'}.")
    if others:
        say(f"It has other types of records: {', '.join(others)}. --message NAME takes another one.")
    for sentence in _tell(draft):
        say(sentence)
    for file in written:
        say(f"Written: {file}")
    return written


def _name_kafka_topic(name: str, subject: str) -> str:
    """The topic that a subject is named after, as senders name them; else one after the topic's own name."""
    of_subject = subject.removesuffix(_SUFFIX)
    is_named = of_subject != subject and re.fullmatch("[a-zA-Z0-9._-]{1,249}", of_subject)
    return of_subject if is_named and of_subject not in (".", "..") else name.replace("_", "-")


def list_records(schema: RegisteredSchema, origin: str) -> list[Shape]:
    """The types of records that values of the schema have, in its order. Raises `UsageError` where there are none."""
    try:
        readers = compile_schema(schema)
        shapes = [shape for place in readers.places for shape in readers.find(place).shape.choices]
    except SchemaError as error:
        raise UsageError(f"{origin} is no schema that can be used: {error}.") from None
    found = list(dict.fromkeys(shape for shape in shapes if shape.kind == "record" and shape.members))
    if not found:
        said = " or ".join(shape.say() for shape in shapes) or "nothing"
        raise UsageError(f"{origin} is the schema of {said}: a topic's records have fields.")
    return found


def choose_record(records: list[Shape], message: str, origin: str) -> tuple[Shape, list[str]]:
    """The type of this name, in full or its last part, and the names of the others. Raises `UsageError` for none."""
    chosen = [each for each in records if message in ("", each.name)]
    chosen = chosen or [each for each in records if each.name.rsplit(".", 1)[-1] == message]
    names = [each.name or "one without a name" for each in records]
    if not chosen:
        raise UsageError(f"{origin} has no type of records {message}. It has: {', '.join(names)}.")
    if message and len(chosen) > 1:
        said = ", ".join(each.name for each in chosen)
        raise UsageError(f"{origin} has several types of records {message}: {said}. Give the full name.")
    return chosen[0], [named for each, named in zip(records, names, strict=True) if each is not chosen[0]]


def _tell(draft: Draft) -> Iterator[str]:
    yield from draft.notes
    spelled = f"counted in {draft.time.unit} since 1970" if draft.time.unit else "as the schema has it"
    yield f"event time: {draft.time_field}, {spelled}."
    if draft.event_id:
        yield (
            f"event id: {draft.event_id[0]}, by its name or type. Look whether two different records ever share one: "
            "the later one would be taken out as a repetition."
        )
    else:
        yield (
            "event id: none, for no field is surely unique by its name. Nothing is deduplicated until event_id names "
            "one."
        )
    nobody = "none, so that forget-user has nothing to erase. Set it where a person is named"
    yield f"subject: {draft.subject or nobody}."
    yield f"event type: {draft.event_type or 'none'}."
    optional = [each.name for each in draft.fields if not each.is_required]
    yield f"May be absent or null: {', '.join(optional)}." if optional else "Every field is required."
    yield "The test holds the schema. Read the descriptions of the fields, and say what they mean."
