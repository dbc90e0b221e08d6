"""The notebook of docs/examples, run cell by cell over a lakehouse that the streams have written."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from pyspark.sql import SparkSession

from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.integration.streams_under_test import StreamsUnderTest, build_purchases

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs/examples/notebook/lake.ipynb"


@pytest.mark.long
@pytest.mark.timeout(300)
def test_it_runs_and_says_what_is_in_the_lakehouse(
    spark: SparkSession,
    kafka: KafkaResource,
    topic: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = Settings(home=tmp_path / "home", kafka_bootstrap_servers="")
    lakehouse = LakehouseResource.from_settings(settings)
    lakehouse.check_writable()
    streams = StreamsUnderTest.build(spark, kafka, lakehouse, settings, topic(1))
    for number in range(3):
        streams.send([*build_purchases(number), b"{"])
        streams.drain("events", "sessions")
    monkeypatch.setenv("HEADRACE_HOME", str(settings.home))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "it is kept without what it has found"

    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()

    said = [_read_output(cell) for cell in notebook.cells if cell.cell_type == "code"]
    assert "silver.events" in said[1] and "platform.ledger" in said[1]
    assert f"purchase │ {3 * len(build_purchases(0))}" in " ".join(said[2].split()).replace("│ ", "│ ")
    assert "not_json │ 3" in " ".join(said[3].split())
    assert "sessions" in said[4]
    assert "records that are not accounted for: 0" in said[-1]


def _read_output(cell: nbformat.NotebookNode) -> str:
    return "".join(
        output.get("text", "") + "".join(output.get("data", {}).get("text/plain", "")) for output in cell.outputs
    )
