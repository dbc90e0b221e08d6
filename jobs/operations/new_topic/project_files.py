"""Writes the files of a new topic into the project, and refuses a name that the project has already."""

from __future__ import annotations

import importlib.util
import keyword
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import platform_assets.topics
from jobs.operations.new_topic.draft import Draft
from jobs.operations.new_topic.stream_file import choose_trigger, name_stream, write_group, write_stream
from platform_assets.errors import UsageError
from platform_assets.groups import load_all_groups
from platform_assets.streaming.topic_spec import Topic
from platform_assets.streams import load_all_streams
from platform_assets.topics import load_topics

_MODULE = "_drafted_topic"
LONGEST_NAME = 40
"""A longer one does not fit into the lines of the files that have it three times."""


def require_new(name: str, kafka_topic: str) -> None:
    """Raises `UsageError` for a name that cannot be, or that a topic or a group has already."""
    if not re.fullmatch(f"[a-z][a-z0-9_]{{0,{LONGEST_NAME - 1}}}", name) or keyword.iskeyword(name):
        said = f"must be small letters, digits and _, {LONGEST_NAME} at most, and no keyword of Python's"
        raise UsageError(f"The topic's name {name!r} {said}.")
    for topic in load_topics():
        if name == topic.name or kafka_topic == topic.kafka_topic:
            raise UsageError(f"There is a topic {topic.name} over {topic.kafka_topic or 'HEADRACE_TOPIC'} already.")
    if name in {group.name for group in load_all_groups()}:
        raise UsageError(f"There is a group {name} already. Give the topic another name.")


def require_own_tables(topic: Topic, stream: str) -> None:
    """Refuses what would have the name of a stream that there is, or one of its tables."""
    others = load_all_streams()
    if taken := {topic.name, stream} & {each.name for each in others}:
        raise UsageError(f"There is a stream {taken.pop()} already. Give the topic another name.")
    tables = {table.name for each in others for table in each.tables}
    if shared := {*(table.name for table in topic.tables), f"gold.{stream}"} & tables:
        raise UsageError(f"There is a table {shared.pop()} already. Give the topic another name.")


def load_topic(text: str) -> Topic:
    """The topic of a file that is not written yet."""
    module = ModuleType(_MODULE)
    sys.modules[_MODULE] = module  # where the types of its records are looked up
    exec(compile(text, f"<{_MODULE}>", "exec"), module.__dict__)
    topic: Topic = module.__dict__["TOPIC"]
    _ = topic.fields
    return topic


def write_files(draft: Draft, topic: str, test: str) -> list[Path]:
    """Writes the topic's file with this text, its test, a stream and a group. Returns their paths in the project.

    Raises `UsageError` where one of them is there already: then nothing is written.
    """
    root = Path(next(iter(platform_assets.topics.__path__))).parents[1]
    trigger = choose_trigger(each.trigger_seconds for each in load_all_streams())
    files = {
        f"platform_assets/topics/{draft.name}.py": topic,
        f"platform_assets/streams/{name_stream(draft)}.py": write_stream(draft, trigger),
        f"platform_assets/groups/{draft.name}.py": write_group(draft),
    }
    if (root / "tests/unit").is_dir():  # an installed project has none
        files[f"tests/unit/test_topic_{draft.name}.py"] = test
    if there := [file for file in files if (root / file).exists()]:
        raise UsageError(f"{', '.join(there)}: there already, and never overwritten. Remove it, or take another name.")
    for file, text in files.items():
        (root / file).write_text(text, encoding="utf-8")
    if importlib.util.find_spec("ruff") is not None:
        command = [sys.executable, "-m", "ruff", "format", "--quiet", *files]
        subprocess.run(command, cwd=root, check=False)
    return [Path(file) for file in files]
