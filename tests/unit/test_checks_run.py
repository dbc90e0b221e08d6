"""`headrace check` says why a check could not run."""

from __future__ import annotations

import io
from pathlib import Path

import dagster as dg
import pytest
from rich.console import Console

from jobs.platform.checks_run import run_checks
from platform_assets.streaming.delta.delta_tables import create_table
from platform_assets.topics.events import EVENTS
from resources import kafka
from resources.lakehouse import LakehouseResource
from resources.settings import load_settings


def test_a_check_without_its_broker_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
    monkeypatch.setattr(kafka, "TIMEOUT_SECONDS", 1.0)
    # Nobody listens there.
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9")
    load_settings.cache_clear()
    create_table(LakehouseResource.from_settings(load_settings()).table_uri(EVENTS.name), EVENTS)
    written = io.StringIO()
    with dg.instance_for_test():
        assert not run_checks(Console(width=400, file=written))
    load_settings.cache_clear()
    said = written.getvalue()
    assert "A check could not run: silver__events_freshness: No Kafka broker answered at 127.0.0.1:9" in said
