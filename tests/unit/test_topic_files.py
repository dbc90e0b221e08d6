"""Topics that cannot be are refused when they are loaded, with the file, the line and what to do."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import platform_assets.topics
from platform_assets.errors import TopicSpecError
from platform_assets.topics import load_topics

GOOD = """
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from platform_assets.streaming.topic_spec import EventTime, Record, TextLines, Topic, digits, epoch, time_format


class Part(Record):
    name: str


class Tree(Record):
    branches: list["Tree"] = []


class Nothing(Record):
    pass


class Odd(Record):
    both: int = msgspec.field(name="first name")


class Twice(Record):
    a: int
    A: int


class Row(Record):
    number: str
    at: str
    kind: str
    count: int = 0
    note: str | None = None


TOPIC = Topic(
    name="rows",
    description="Rows.",
    kafka_topic="rows",
    record=Row,
    event_time=EventTime("at"),
    event_id=("number",),
    subject="kind",
    event_type="kind",
)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is searched for topics besides the product's own."""
    path = [*platform_assets.topics.__path__, str(tmp_path)]
    monkeypatch.setattr(platform_assets.topics, "__path__", path)
    return tmp_path


def test_a_file_is_a_topic(folder: Path, request: pytest.FixtureRequest) -> None:
    write(folder, request, GOOD)
    found = {topic.name: topic for topic in load_topics()}
    assert [table.name for table in found["rows"].tables] == [
        "silver.rows", "silver.quarantined_rows", "silver.deduplicated_rows",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "at", "said"),
    [
        ('"at"', '"when"', 'EventTime("when")', "event_time names 'when'; the record's fields are number, at, kind,"),
        ('("number",)', '("id",)', '("id",)', "event_id names 'id'"),
        ('("number",)', '("at",)', '("at",)', "event_id is the event time alone"),
        ('subject="kind"', 'subject="who"', 'subject="who"', "subject names 'who'"),
        ('subject="kind"', 'subject="note"', 'subject="note"', "subject names note: it must be a required str or int"),
        ('event_type="kind"', 'event_type="count"', 'event_type="count"', "event_type names count: it must be a str"),
        ('EventTime("at")', 'EventTime("note")', 'EventTime("note")', "it must be required"),
        ('EventTime("at")', 'EventTime("at", unit="s")', "EventTime(", "at is no number"),
        ("at: str", "at: int", "EventTime(", "event_time needs a unit"),
        ("at: str", "at: bool", "EventTime(", "it must be a str, a datetime, an int or a float"),
        ("count: int = 0", "count: complex = 0", "count: complex", "no column holds the type custom"),
        ("count: int = 0", "count: Any = 0", "count: Any", "no column holds the type any"),
        ("count: int = 0", "count: int | str = 0", "count: int | str", "no column holds the type union"),
        ("count: int = 0", "count: Decimal = 0", "count: Decimal", "say how many digits"),
        ("count: int = 0", "count: Annotated[Decimal, digits(40, 2)] = 0", "count: Ann", "digits are 1 to 38"),
        ("count: int = 0", "count: list[Decimal] = []", "count: list", "say how many digits"),
        ("count: int = 0", "kafka_offset: int = 0", "kafka_offset", "The table has a column kafka_offset of its own"),
        ("count: int = 0", "_count: int = 0", "_count", "names that begin with _ are the engine's"),
        ("count: int = 0", "Number: int = 0", "number: str", "Delta does not tell capitals"),
        ("count: int = 0", "count: list[Annotated[int, epoch('s')]] = []", "count: list", "for a field of the record"),
        ("count: int = 0", "count: Annotated[str, epoch('s')] = ''", "count: Ann", "the mark of a time"),
        ("class Part(Record)", "class Part(msgspec.Struct)", None, ""),
        ("class Row(Record)", "class Row(msgspec.Struct)", "class Row", "derive its record from Record"),
        ('name="rows"', 'name="Rows"', 'name="Rows"', "must be small letters, digits and _"),
        ('kafka_topic="rows"', 'kafka_topic="a b"', 'kafka_topic="a b"', "Kafka has no topic with the name 'a b'"),
        ('name="rows"', 'name="events"', 'name="events"', "events.py has the name 'events' as well"),
        ("record=Row", "record=Row, values=TextLines('a(b)')", "record=Row", "The pattern has no named groups"),
        ("record=Row", "record=Row, values=TextLines('(?P<at>b')", "record=Row", "is no regular expression"),
        ("record=Row", "record=Row, values=TextLines('(?P<at>b)')", "record=Row", "no group for the required"),
        (
            "record=Row", "record=Row, values=TextLines('(?P<at>b)(?P<number>.)(?P<kind>.)(?P<x>.)')", "record=Row",
            "no field for the pattern's groups ['x']",
        ),
        ("record=Row", "record=Row, added_fields=('x',)", "record=Row", "added_fields names 'x'"),
        ("TOPIC = Topic(", "TOPIC = dict(", "TOPIC =", "TOPIC must be a Topic"),
        ('name="rows"', 'name="quarantined_events"', 'name="quar', "events.py has the table silver.quarantined_events"),
        ('name="rows"', f'name="{"a" * 201}"', 'name="a', "at most 200"),
        ('kafka_topic="rows"', 'kafka_topic=".."', 'kafka_topic=".."', "Kafka has no topic with the name '..'"),
        ("count: int = 0", "Event_Date: int = 0", "Event_Date", "has a column Event_Date of its own"),
        ("count: int = 0", "count: Tree | None = None", "branches: list", "Tree holds itself, and a column has an end"),
        ("count: int = 0", "count: Nothing | None = None", "count: Noth", "Nothing has no fields"),
        ("count: int = 0", "count: Odd | None = None", "count: Odd", "no column has a member called 'first name'"),
        ("count: int = 0", "count: Twice | None = None", "count: Twice", "two members are called a"),
        ("count: int = 0", "count: Annotated[int, epoch('m')] = 0", "count: Ann", "there is no unit 'm'"),
        ("count: int = 0", "count: Annotated[str, time_format('%Q')] = ''", "count: Ann", "'%Q' is no format of"),
        ('EventTime("at")', 'EventTime("at", format="%Q")', "EventTime(", "no format of datetime.strptime"),
        ("record=Row", 'record=Row, values="json"', "record=Row", "values must be JsonValues(...), TextLines(...), "),
        ("record=Row", 'record=Row, rules=("positive",)', "record=Row", "rules must be functions"),
        ("count: int = 0", "count: list[int] = [1]", "class Row", "TypeError: Using a non-empty mutable"),
        ("count: int = 0", "count: int = 1 / 0", "count: int", "ZeroDivisionError: division by zero."),
        ('event_type="kind"', 'event_typ="kind"', "TOPIC =", "TypeError: Topic.__init__() got an unexpected keyword"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_named_with_its_line(
    folder: Path, request: pytest.FixtureRequest, old: str, new: str, at: str | None, said: str
) -> None:
    assert GOOD.count(old) == 1
    text = GOOD.replace(old, new)
    file = write(folder, request, text)
    if at is None:
        load_topics()  # a record that no topic uses
        return
    with pytest.raises(TopicSpecError) as caught:
        load_topics()
    line = next(number for number, each in enumerate(text.splitlines(), 1) if at in each)
    assert str(caught.value).startswith(f"{file}, line {line}: "), str(caught.value)
    assert said in str(caught.value)


def test_a_group_of_a_pattern_is_one_text(folder: Path, request: pytest.FixtureRequest) -> None:
    lines = "TextLines(r'(?P<number>.) (?P<at>.) (?P<kind>.) (?P<count>.)')"
    text = GOOD.replace("count: int = 0", "count: list[int] = []").replace("record=Row", f"record=Row, values={lines}")
    write(folder, request, text)
    with pytest.raises(TopicSpecError, match="count is a list, and a group of a pattern is one text"):
        load_topics()


def test_a_file_that_is_no_python_says_where(folder: Path, request: pytest.FixtureRequest) -> None:
    write(folder, request, GOOD.replace("class Row(Record):", "class Row(Record)"))
    with pytest.raises(TopicSpecError, match=re.escape(f"line {GOOD.splitlines().index('class Row(Record):') + 1}")):
        load_topics()


def write(folder: Path, request: pytest.FixtureRequest, text: str) -> Path:
    """Writes the file of a topic; it is forgotten when the test is over."""
    file = folder / "rows.py"
    file.write_text(text)
    request.addfinalizer(lambda: sys.modules.pop("platform_assets.topics.rows", None))
    return file


def test_the_command_line_says_it_in_one_line(tmp_path: Path) -> None:
    """Shows what somebody sees who has made a mistake."""
    (tmp_path / "rows.py").write_text(GOOD.replace('"at"', '"when"'))
    code = (
        "import sys, platform_assets.topics as topics\n"
        f"topics.__path__.append({str(tmp_path)!r})\n"
        "from jobs.cli.__main__ import main\n"
        "sys.argv = ['headrace', 'explain', '--event-id', 'x']\n"
        "sys.exit(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "rows.py, line 46: event_time names 'when'" in done.stderr
