"""The platform's own processes over a lakehouse in S3: killed and gone on, and the whole demonstration."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from deltalake.exceptions import TableNotFoundError

from platform_assets.checks.ledger import audit_stream
from platform_assets.streaming.stream_spec import select_ingest
from platform_assets.streams import load_streams
from resources.lakehouse import LakehouseResource
from tests.integration.streams_under_test import build_purchases
from tests.integration.supervised_platform import ROOT, Platform, wait_for
from tests.s3_server import BUCKET, S3Server, running_s3

(EVENTS,) = select_ingest(load_streams())


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with running_s3() as server:
        yield server


def environment_of(server: S3Server, root: str) -> dict[str, str]:
    return {"HEADRACE_LAKEHOUSE": root, "HEADRACE_STORAGE_OPTIONS": json.dumps(server.options)}


@pytest.mark.long
def test_killed_streams_go_on_and_lose_nothing(server: S3Server, platform: Platform) -> None:
    """Host and JVM are killed between two commits, wherever they are, and the next run reads on."""
    root = f"s3://{BUCKET}/killed"
    settings = platform.settings.model_copy(update={"lakehouse": root, "storage_options": server.options})
    lakehouse = LakehouseResource.from_settings(settings)
    producer = platform.kafka.producer()
    for number in range(100):
        for value in build_purchases(number):
            producer.produce(settings.topic, value=value, key=b"user")
    assert producer.flush(30) == 0
    platform.environment |= environment_of(server, root) | {"HEADRACE_MAX_OFFSETS_PER_TRIGGER": "100"}
    command = [sys.executable, "-m", "jobs.cli", "drain"]
    with (settings.home / "drain.log").open("wb") as log:
        drain = subprocess.Popen(command, cwd=ROOT, env=platform.environment, stdout=log, stderr=log)
    wait_for(lambda: _count(lakehouse) >= 300, "three batches are written")
    victims = [psutil.Process(drain.pid), *psutil.Process(drain.pid).children(recursive=True)]
    for victim in victims:
        victim.kill()
    drain.wait()
    psutil.wait_procs(victims, 30)
    assert _count(lakehouse) < 2000, "it was killed before its end"

    platform.environment["HEADRACE_MAX_OFFSETS_PER_TRIGGER"] = "200000"
    again = platform.drain()
    assert again.returncode == 0, again.stderr[-2000:]
    assert _count(lakehouse) == 2000
    assert audit_stream(EVENTS, lakehouse, platform.kafka).breaches == ()


def _count(lakehouse: LakehouseResource) -> int:
    try:
        return int(lakehouse.delta_table("silver.events").to_pyarrow_dataset().count_rows())
    except TableNotFoundError:
        return 0


@pytest.mark.release
@pytest.mark.timeout(1200)
def test_the_demonstration_passes_every_check(server: S3Server, tmp_path: Path) -> None:
    ours = {"HEADRACE_HOME": str(tmp_path / "home"), "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-m", "jobs.cli", "demo"], cwd=ROOT, env=ours | environment_of(server, f"s3a://{BUCKET}/demo"),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = [line for line in done.stdout.splitlines() if re.search("failed|could not", line, re.IGNORECASE)]
    assert not said, done.stdout
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (tmp_path / "home" / "lakehouse").exists(), "nothing is written next to S3"
