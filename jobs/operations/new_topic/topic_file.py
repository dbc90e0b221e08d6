"""Writes a topic's file from its draft."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from jobs.operations.new_topic.draft import Draft, DraftField, has_no_year
from jobs.operations.new_topic.field_types import FieldType, RecordClass
from jobs.operations.new_topic.literals import quote, quote_long, quote_words

_DESCRIPTION = "Accepted records of {}: typed, validated, deduplicated."
_WIDTH = 120
# A literal, or its end and the next one's beginning: a docstring's quotes are matched as both.
_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"')
_ADD_YEAR = '''
def add_year(text: str) -> str:
    """Spells a time of syslog (RFC 3164) as ISO 8601, with the year that makes it a moment of the last twelve months.

    Raises `ValueError` for a text that is no such time.
    """
    now = datetime.now(UTC) + timedelta(days=1)
    for year in (now.year, now.year - 1):
        moment = datetime.strptime(f"{year} {text} +0000", "%Y %b %d %H:%M:%S %z")
        if moment <= now:
            break
    return moment.replace(tzinfo=None).isoformat()

'''


def write_topic(draft: Draft, origin: str) -> str:
    """The text of `platform_assets/topics/<name>.py`. `origin` is a short sentence: what it was inferred from."""
    body = "\n\n".join(_write_classes(draft))
    if has_no_year(draft):
        body += f"\n\n{_ADD_YEAR.rstrip()}\n"
    kind = "a line of text a record" if draft.pattern is not None else "a JSON object a record"
    if draft.subjects is not None:
        kind = "its values are written by schemas of a registry"
    said = f"Topic `{draft.name}`: {kind}. {origin}"
    return (
        f'"""{said}"""\n\n'
        f"from __future__ import annotations\n\n{_write_imports(draft, body)}\n\n{body}\n\n{_write_value(draft)}"
    )


def _write_classes(draft: Draft) -> Iterator[str]:
    for each in draft.classes:
        yield _write_class(each)
    lines = [_write_field(each.name, each.key, each.type, each.is_required, _annotate(each)) for each in draft.fields]
    doc = '    """One record of the topic. Say here what it stands for."""\n\n'
    yield f"class {draft.record_class}(Record):\n{doc}" + "\n".join(lines) + "\n"


def _write_class(each: RecordClass) -> str:
    ordered = sorted(each.fields, key=lambda found: not found[3])
    lines = [_write_field(name, key, of, is_required, list(of.marks)) for key, name, of, is_required in ordered]
    return f'class {each.name}(Record):\n    """A part of a record."""\n\n' + "\n".join(lines) + "\n"


def _annotate(each: DraftField) -> list[str]:
    examples = f", examples=[{', '.join(map(quote, each.examples))}]" if each.examples else ""
    return [*each.type.marks, f"Meta(description={quote_words(each.description)}{examples})"]


def _write_field(name: str, key: str, of: FieldType, is_required: bool, marks: Sequence[str]) -> str:
    python = of.python if is_required else f"{of.python} | None"
    annotation = f"Annotated[{', '.join((python, *marks))}]" if marks else python
    if key != name:
        default = "" if is_required else ", default=None"
        return f"    {name}: {annotation} = msgspec.field(name={quote(key)}{default})"
    return f"    {name}: {annotation}" + ("" if is_required else " = None")


def _write_imports(draft: Draft, body: str) -> str:
    from_datetime = ["UTC", "datetime", "timedelta"] if has_no_year(draft) else []
    body = _TEXT.sub('""', body)  # what a text says is no name
    types = [each.type for each in draft.fields] + [of for each in draft.classes for _, _, of, _ in each.fields]
    words = {word for of in types for word in re.findall(r"\w+", _TEXT.sub('""', of.as_item()))}
    from_datetime = sorted({*from_datetime, *(words & {"date", "datetime"})}, key=lambda name: (name.islower(), name))
    lines = [f"from datetime import {', '.join(from_datetime)}"] if from_datetime else []
    lines += ["from decimal import Decimal"] if "Decimal" in words else []
    lines += [f"from typing import Annotated{', Literal' if 'Literal' in words else ''}", ""]
    lines += ["import msgspec"] if "msgspec.field(" in body else []
    lines += ["from msgspec import Meta", ""]
    spec = [word for word in ("digits", "epoch", "time_format") if f"{word}(" in body]
    values = ["TextLines"] if draft.pattern is not None else []
    values += ["RegistryValues"] if draft.subjects is not None else []
    names = ", ".join(["EventTime", "Record", *values, "Topic", *spec])
    return "\n".join([*lines, f"from platform_assets.streaming.topic_spec import {names}"])


def _write_value(draft: Draft) -> str:
    upper = draft.name.upper()
    time = [quote(draft.time_field)]
    if not has_no_year(draft):
        time += [f"unit={quote(draft.time.unit)}"] if draft.time.unit else []
        time += [f"format={quote(draft.time.format)}"] if draft.time.format else []
    lines = [
        f"name={quote(draft.name)}",
        f"description={quote(_DESCRIPTION.format(draft.name))}",
        f"kafka_topic={quote(draft.kafka_topic)}",
        f"record={draft.record_class}",
        f"event_time=EventTime({', '.join(time)})",
    ]
    if draft.event_id:
        lines.append(f"event_id=({', '.join(map(quote, draft.event_id))}{',' if len(draft.event_id) == 1 else ''})")
    lines += [f"subject={quote(draft.subject)}"] if draft.subject else []
    lines += [f"event_type={quote(draft.event_type)}"] if draft.event_type else []
    lines += [f"values=TextLines(\n{quote_long(draft.pattern, 8)}\n    )"] if draft.pattern is not None else []
    if draft.subjects is not None:
        subjects = "".join(f"{quote(each)}, " for each in draft.subjects)
        lines.append(f"values=RegistryValues({f'subjects=({subjects})' if subjects else ''})")
    lines += [f"spellings={{{quote(draft.time_field)}: add_year}}"] if has_no_year(draft) else []
    arguments = "".join(f"    {line},\n" for line in lines)
    tables = f"{upper}, QUARANTINED_{upper}, DEDUPLICATED_{upper} = TOPIC.tables"
    if len(tables) > _WIDTH:
        tables = f"(\n    {upper},\n    QUARANTINED_{upper},\n    DEDUPLICATED_{upper},\n) = TOPIC.tables"
    return f"TOPIC = Topic(\n{arguments})\n{tables}\n"
