"""Whatever the samples are: the topic drafted from them accepts them all, or what is wrong with them is said."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from jobs.operations.new_topic.command import build_judge
from jobs.operations.new_topic.draft import Draft, draft_topic
from jobs.operations.new_topic.project_files import LONGEST_NAME, load_topic
from jobs.operations.new_topic.sample_test import choose_samples, write_test
from jobs.operations.new_topic.samples import read_samples
from jobs.operations.new_topic.stream_file import write_group, write_stream
from jobs.operations.new_topic.topic_file import write_topic
from platform_assets.errors import UsageError

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
KEYS = st.one_of(
    st.sampled_from(["class", "topic", "event_time", "user_id", "userId", "date", "price", "a-b", "ID", "id", "_id",
                     "str", "kafka_offset", "created_at", "status", "9lives", "größe", "€", "", "Items", "None"]),
    st.text(st.characters(codec="utf-8", exclude_characters="."), max_size=8),
)  # fmt: skip
TIMES = st.datetimes(datetime(2001, 1, 1), datetime(2026, 1, 1))  # noqa: DTZ001 senders leave the zone out
LEAVES = (
    st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=12),
    st.sampled_from(["a", "b"]), st.dates().map(str), TIMES.map(lambda at: at.isoformat()),
    st.integers(1_600_000_000, 1_700_000_000), st.decimals(-99, 9999, places=2).map(str),
)  # fmt: skip


def build_values(depth: int) -> st.SearchStrategy[st.SearchStrategy[Any]]:
    """What the values of one field are drawn from."""
    leaf: st.SearchStrategy[st.SearchStrategy[Any]] = st.sampled_from(LEAVES)
    if depth == 0:
        return leaf
    inner = build_values(depth - 1)
    nested = st.one_of(
        leaf,
        inner.map(lambda of: st.lists(of, max_size=3)),
        st.dictionaries(KEYS, inner, max_size=3).map(lambda of: st.fixed_dictionaries({}, optional=of)),
    )
    return nested.flatmap(lambda of: st.sampled_from([of, st.none() | of]))


SCHEMAS = st.dictionaries(KEYS, build_values(2), max_size=6)


def write(folder: Path, records: list[dict[str, Any]]) -> Path:
    file = folder / "samples.jsonl"
    file.write_text("\n".join(json.dumps(record) for record in records))
    return file


def write_all(draft: Draft, raw: tuple[bytes, ...]) -> dict[str, str]:
    topic = write_topic(draft, "By samples.")
    judge = build_judge(load_topic(topic))
    assert [judge.explain(value) for value in raw if judge(value)] == []
    return {
        "topic.py": topic,
        "stream.py": write_stream(draft, 23.0),
        "group.py": write_group(draft),
        "tests/test_drafted.py": write_test(draft, choose_samples(raw), judge),
    }


@given(SCHEMAS, st.data())
# Shrinking such a schema takes minutes, and says little more.
@settings(
    max_examples=60,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_a_draft_accepts_its_samples(
    tmp_path_factory: pytest.TempPathFactory, schema: dict[str, st.SearchStrategy[Any]], data: st.DataObject
) -> None:
    one = st.fixed_dictionaries({}, optional=schema)
    records = [
        {"sent": f"2026-03-01T12:{number:02}:00Z", **record}
        for number, record in enumerate(data.draw(st.lists(one, min_size=1, max_size=6)))
    ]
    folder = tmp_path_factory.mktemp("drafted")
    samples = read_samples(write(folder, records))
    try:
        draft = draft_topic("d" * LONGEST_NAME, "drafted", samples)
    except UsageError as error:
        assert "is of several types" in str(error)
        return
    (folder / "tests").mkdir()
    for name, text in write_all(draft, samples.raw).items():
        (folder / name).write_text(text)
    command = [sys.executable, "-m", "ruff"]
    subprocess.run([*command, "format", "-q", str(folder)], check=True)
    options = ["--config", str(ROOT / "pyproject.toml"), "--config", "lint.isort.known-first-party=['platform_assets']"]
    done = subprocess.run(
        [*command, "check", "-q", "--extend-ignore", "D103", *options, str(folder)], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout.decode()
