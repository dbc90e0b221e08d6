"""A process that is killed within a merge of current rows, again and again, on local files and in S3."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from platform_assets.streaming.delta.delta_tables import build_arrow_schema
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.accounts import CURRENT
from tests.s3_server import BUCKET, running_s3

_BATCHES, _KEYS, _ROWS = 12, 3_000, 1_200
_KILLS = 5


@pytest.fixture(params=["files", "s3"])
def environment(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Says to the process where the lakehouse is."""
    if request.param == "files":
        yield {"HEADRACE_LAKEHOUSE": str(tmp_path / "lakehouse")}
        return
    with running_s3() as server:
        root = {"HEADRACE_LAKEHOUSE": f"s3://{BUCKET}/lakehouse"}
        yield {**root, "HEADRACE_STORAGE_OPTIONS": json.dumps(server.options)}


def build_batch(number: int, chance: random.Random) -> pa.Table:
    """Changes of some keys, one a key; some are older than what an earlier batch has."""
    rows = []
    for key in chance.sample(range(_KEYS), _ROWS):
        position = number * 1_000 + chance.randrange(-1_500, 1_000)
        is_deleted = chance.random() < 0.2
        row: dict[str, Any] = dict.fromkeys(column.name for column in CURRENT.main_table.columns)
        row |= {"id": str(key), "changed_at": datetime.fromtimestamp(1_770_000_000 + position, UTC),
                "change_position": f"{position + 10_000:020d}", "kafka_partition": 0,
                "kafka_offset": number * _KEYS + key, "is_deleted": is_deleted}  # fmt: skip
        if not is_deleted:
            row |= {"balance": Decimal(position) / 100, "name": f"n{number}", "tags": [f"t{key}"]}
        rows.append(row)
    return pa.Table.from_pylist(rows, build_arrow_schema(CURRENT.main_table))


def find_latest(batches: list[pa.Table]) -> dict[str, dict[str, Any]]:
    """Finds by a dict of each key the row of the greatest position, then offset."""
    latest: dict[str, dict[str, Any]] = {}
    for row in (row for batch in batches for row in batch.to_pylist()):
        known = latest.get(row["id"])
        if known is None or _rank(row) > _rank(known):
            latest[row["id"]] = row
    return latest


def _rank(row: dict[str, Any]) -> tuple[str, int, int]:
    return row["change_position"], row["kafka_partition"], row["kafka_offset"]


class Writer:
    """The process under test, and what it says."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.merging_writer", str(folder)],
            stdout=subprocess.PIPE, text=True, env={**os.environ, **environment},
        )  # fmt: skip

    def read(self) -> tuple[str, int] | None:
        """The next thing that it says; None when it has ended."""
        assert self.process.stdout is not None
        word, _, number = self.process.stdout.readline().strip().partition(" ")
        if number:
            return word, int(number)
        self.process.stdout.close()
        return None


@pytest.mark.long
def test_a_merge_that_is_killed_is_made_once(environment: dict[str, str], tmp_path: Path) -> None:
    chance = random.Random(5)
    folder = tmp_path / "batches"
    folder.mkdir()
    batches = [build_batch(number, chance) for number in range(_BATCHES)]
    for number, batch in enumerate(batches):
        pq.write_table(batch, folder / f"{number}.parquet")

    cut_short: Counter[str] = Counter()
    # The first merge of a process takes longer than the others: each kill comes somewhat later within it.
    for delay in [0.01 * 3**number for number in range(_KILLS)]:
        writer = Writer(folder, environment)
        begun = writer.read()
        assert begun is not None and begun[0] == "begins"
        timer = threading.Timer(delay, writer.process.kill)
        timer.start()
        said = begun
        while (heard := writer.read()) is not None:
            said = heard
        timer.join()
        writer.process.wait()
        cut_short[said[0]] += 1
    assert cut_short["begins"] >= 2, "some were killed within a merge"

    last = Writer(folder, environment)
    while last.read() is not None:
        pass
    assert last.process.wait() == 0
    settings = Settings.model_validate({
        "lakehouse": environment["HEADRACE_LAKEHOUSE"],
        "storage_options": json.loads(environment.get("HEADRACE_STORAGE_OPTIONS", "{}")),
    })  # fmt: skip
    lakehouse = LakehouseResource.from_settings(settings)
    table = DeltaTable(lakehouse.table_uri(CURRENT.main_table.name), storage_options=lakehouse.storage_options())
    rows = {row["id"]: row for row in table.to_pyarrow_table().to_pylist()}
    assert len(rows) == table.to_pyarrow_table().num_rows
    assert rows == find_latest(batches)
    commits = [commit["operation"] for commit in table.history()]
    assert commits.count("MERGE") == _BATCHES, "each batch has one commit"
