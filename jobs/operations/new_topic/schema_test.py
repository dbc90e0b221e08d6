"""Writes the test of a topic that was inferred from a schema: its contract still reads what the schema writes."""

from __future__ import annotations

import re

from jobs.operations.new_topic.literals import quote
from platform_assets.streaming.formats.registered_schema import RegisteredSchema

# Leaves room for the indentation and the quotes within the project's 120 columns.
_WIDTH = 100


def write_schema_test(name: str, schema: RegisteredSchema, record: str) -> str:
    """The text of `tests/unit/test_topic_<name>.py`. `record` is the type's name, empty where the schema has one."""
    references = "".join(
        f"    NamedSchema(\n        {quote(each.name)},\n        {_quote_lines(each.text, 8)},\n    ),\n"
        for each in schema.references
    )
    return _TEST.format(
        name=name,
        named="NamedSchema, " if references else "",
        text=_quote_lines(schema.text, 0),
        format=quote(schema.format),
        references=f"\nREFERENCES = (\n{references})" if references else "",
        more=", REFERENCES" if references else "",
        record=quote(record),
    )


def _quote_lines(text: str, indent: int) -> str:
    """A literal of several lines in parentheses: each is a line of the text, or a part of a long one."""
    parts = re.findall(rf"[^\n]{{0,{_WIDTH}}}\n|[^\n]{{1,{_WIDTH}}}", text) or [""]
    space = " " * indent
    lines = "\n".join(f"{space}    {_quote_line(part)}" for part in parts)
    return f"(\n{lines}\n{space})"


def _quote_line(part: str) -> str:
    return f'{quote(part[:-1])[:-1]}\\n"' if part.endswith("\n") else quote(part)


_TEST = '''"""The contract of `{name}` reads the records of the schema that it was written from."""

from __future__ import annotations

import pytest

from platform_assets.streaming.formats.contract_fit import find_misfits
from platform_assets.streaming.formats.readers import compile_schema
from platform_assets.streaming.formats.registered_schema import {named}RegisteredSchema
from platform_assets.topics.{name} import TOPIC

pytestmark = pytest.mark.unit

TEXT = {text}{references}
SCHEMA = RegisteredSchema(1, {format}, TEXT{more})


def test_the_contract_reads_the_records_of_the_schema() -> None:
    readers = compile_schema(SCHEMA)
    records = [record for place in readers.places for record in readers.find(place).shape.choices]
    [record] = [each for each in records if each.name == {record}][:1]
    assert find_misfits(record, TOPIC) == []
'''
