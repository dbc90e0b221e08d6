"""docs/changing-the-events.md, to the letter in a copy of the project, while a shop sends 1,000 events a second."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jobs.supervision.group_lock import read_lock
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.copied_project import copy_project, keep_streams, replace_text
from tests.integration.streams_under_test import StreamsUnderTest
from tests.integration.supervised_platform import wait_for
from tests.short_lived_jvm import ENVIRONMENT

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ROOT = Path(__file__).parents[2]
FIELD, ADDED = re.findall(r"```text\n(.*?)```", (ROOT / "docs/changing-the-events.md").read_text(), re.DOTALL)
TOPIC = "platform_assets/topics/events.py"
LAST_FIELD = "        | None\n    ) = None\n"
HAS_BREACHES = """
from platform_assets.checks.schema_contract import find_contract_breaches
from platform_assets.topics.events import EVENTS
from resources.lakehouse import LakehouseResource
from resources.settings import load_settings
print(find_contract_breaches(LakehouseResource.from_settings(load_settings()).delta_table(EVENTS.name), EVENTS))
"""


def copy_changed(place: Path, changes: dict[str, list[tuple[str, str]]]) -> Path:
    """The project with some texts replaced, each of which stands in its file once."""
    copy_project(place)
    for file, replacements in changes.items():
        for old, new in replacements:
            replace_text(place / file, old, new)
    keep_streams(place, "events", "sessions")
    return place


def environment_of(project: Path, streams: StreamsUnderTest) -> dict[str, str]:
    return {
        **os.environ,
        "HEADRACE_HOME": str(project / "home"),
        "HEADRACE_LAKEHOUSE": streams.context.lakehouse_root,
        "HEADRACE_TOPIC": streams.topic,
        "KAFKA_BOOTSTRAP_SERVERS": streams.context.kafka_options["kafka.bootstrap.servers"],
        "HEADRACE_SPARK_HEAP_MIB": "768",
        **ENVIRONMENT,
    }


def run(project: Path, streams: StreamsUnderTest, *command: str) -> subprocess.CompletedProcess[str]:
    environment = environment_of(project, streams)
    return subprocess.run(
        [sys.executable, *command], cwd=project, env=environment, capture_output=True, text=True, check=False
    )


def kill_a_drain(project: Path, streams: StreamsUnderTest) -> None:
    """Kills it with kill -9 when it has written rows of the new column."""
    command, environment = [sys.executable, "-m", "jobs.cli", "drain"], environment_of(project, streams)
    with (project / "killed.log").open("wb") as log:
        drain = subprocess.Popen(command, cwd=project, env=environment, stdout=log, stderr=log)
    try:
        wait_for(lambda: has_channels(streams), "rows of the new column")
    finally:
        drain.kill()
        drain.wait()
    wait_for(lambda: not read_lock(project / "home", "clickstream").held, "the killed drain's JVM is dead")


def has_channels(streams: StreamsUnderTest) -> bool:
    return any(row.get("channel") for row in streams.rows("silver.events"))


def build_views(number: int) -> list[bytes]:
    at = datetime.now(UTC).isoformat()
    event = {"event_type": "page_view", "timestamp": at, "user_id": "u", "channel": "app", "country": "DE"}
    return [json.dumps({"event_id": f"{number}-{n}", **event}).encode() for n in range(100)]


@pytest.mark.release
@pytest.mark.timeout(900)
def test_a_new_field_becomes_a_column_and_another_change_is_refused(
    spark: SparkSession,
    kafka: KafkaResource,
    lakehouse: LakehouseResource,
    settings: Settings,
    topic: Callable[..., str],
    tmp_path: Path,
) -> None:
    streams = StreamsUnderTest.build(spark, kafka, lakehouse, settings, topic(1))
    streams.send(build_views(-1))
    streams.drain("events", "sessions")

    newer = copy_changed(
        tmp_path / "newer",
        {
            TOPIC: [(LAST_FIELD, LAST_FIELD + FIELD), ('    added_fields=("currency",),\n', ADDED)],
        },
    )
    with streams.sending(build_views):
        kill_a_drain(newer, streams)
        drained = run(newer, streams, "-m", "jobs.cli", "drain")
    assert drained.returncode == 0, drained.stderr
    assert run(newer, streams, "-c", HAS_BREACHES).stdout.strip() == "[]"

    streams.drain("events", "sessions")  # undone: the older code reads the rest
    channels = Counter((row["channel"], row["unknown_fields"]) for row in streams.rows("silver.events"))
    older = channels.pop((None, '{"channel":"app"}'))
    newest = channels.pop(("app", None))
    assert not channels and older > 100 and newest >= 100
    ends = kafka.end_offsets(streams.topic)
    assert sorted(row["kafka_offset"] for row in streams.rows("silver.events")) == list(range(ends[0]))

    renamed = copy_changed(tmp_path / "renamed", {TOPIC: [("    country: Annotated", "    land: Annotated")]})
    version = streams.version("silver.events")
    refused = run(renamed, streams, "-m", "jobs.cli", "drain")
    assert refused.returncode == 1 and "Traceback" not in refused.stderr
    assert "Column land is missing. Column country is not in the spec." in refused.stderr.splitlines()[-1]
    assert streams.version("silver.events") == version
