"""docs/change-events.md: its files are a topic, a stream and a group, and its names those of the platform."""

from __future__ import annotations

import re
import sys
from functools import partial
from pathlib import Path

import pytest

import platform_assets.groups
import platform_assets.streams
import platform_assets.topics
from platform_assets.streaming.change_events import FACTS, OPERATIONS, PARTIAL_OPERATIONS, TIME
from platform_assets.streams import load_all_stream_groups

PAGE = (Path(__file__).parents[2] / "docs" / "change-events.md").read_text()
FILES = dict(re.findall(r"`platform_assets/(\w+/\w+\.py)`:\n\n```python\n(.*?)```", PAGE, re.DOTALL))


def test_the_files_of_the_page_are_a_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    assert sorted(FILES) == ["groups/shop_database.py", "streams/current_customers.py", "topics/customers.py"]
    for path, text in FILES.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
        module = f"platform_assets.{path.removesuffix('.py').replace('/', '.')}"
        request.addfinalizer(partial(sys.modules.pop, module, None))
    for package in (platform_assets.topics, platform_assets.streams, platform_assets.groups):
        own = tmp_path / package.__name__.rpartition(".")[2]
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(own)])
    (group,) = (found for found in load_all_stream_groups() if found.name == "shop_database")
    assert group.query_names == ("customers", "current_customers")
    (changes, *_), (current,) = (stream.tables for stream in group.streams)
    assert current.key == ("id",) and current.columns[-1].name == "is_deleted"
    types = {column.name: column.type for column in changes.columns}
    assert types["credit"] == "decimal(12,2)" and types["seen_at"] == "timestamp"
    assert {*FACTS} - {TIME} <= types.keys()


def test_the_page_names_what_a_change_says_of_itself() -> None:
    words = set(re.findall(r"`(\w+)`", PAGE))
    assert {*OPERATIONS.values(), *PARTIAL_OPERATIONS, *FACTS} - {TIME} <= words
