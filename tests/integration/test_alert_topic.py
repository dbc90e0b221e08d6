"""The group `alerts` as its host runs it: a topic of a real broker is told, one that is away is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from jobs.supervision.application import open_application
from jobs.supervision.host import host_group
from jobs.supervision.terminal import Terminal
from platform_assets.alerting.catalogue import load_groups
from platform_assets.errors import BrokerUnavailableError
from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table
from platform_assets.tables.platform import ALERTS
from platform_assets.topics.events import QUARANTINED_EVENTS
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings, load_settings
from tests.integration.test_simulator import read_all
from tests.unit.alerting.raised_table import NOON


@pytest.fixture
def alert_settings(
    settings: Settings, kafka: KafkaResource, topic: Callable[..., str], monkeypatch: pytest.MonkeyPatch,
    fresh_settings: None,
) -> Settings:  # fmt: skip
    monkeypatch.setenv("HEADRACE_HOME", str(settings.home))
    monkeypatch.setenv("HEADRACE_ALERTS", "events_refused")
    monkeypatch.setenv("HEADRACE_ALERTS_TOPIC", topic(1))
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka.servers())
    load_settings.cache_clear()
    return load_settings()


def run(settings: Settings) -> None:
    """One bounded run, as of a drain."""
    group = load_groups()[-1]
    port = Terminal("drain", lambda _line: None)
    assert host_group(partial(open_application, group, settings, -1), port, grace_seconds=10, bounded=True).finished


def refuse(lakehouse: LakehouseResource, *reasons: str) -> None:
    uri = lakehouse.table_uri(QUARANTINED_EVENTS.name)
    create_table(uri, QUARANTINED_EVENTS, {})
    rows = [
        {
            "key": None, "value": b"{", "topic": "events", "kafka_partition": 0, "kafka_offset": number,
            "kafka_timestamp": NOON, "reason": reason, "detail": "someone's name", "quarantined_at": NOON,
        }
        for number, reason in enumerate(reasons)
    ]  # fmt: skip
    write_deltalake(uri, pa.Table.from_pylist(rows, build_arrow_schema(QUARANTINED_EVENTS)), mode="append")


def test_a_topic_is_told_of_each_alert_once(alert_settings: Settings, kafka: KafkaResource) -> None:
    lakehouse = LakehouseResource.from_settings(alert_settings)
    refuse(lakehouse)
    run(alert_settings)
    refuse(lakehouse, "not_json", "not_json", "wrong_type")
    run(alert_settings)
    run(alert_settings)
    records = [(key, json.loads(value or b"")) for _, key, value in read_all(kafka, alert_settings.alerts_topic)]
    assert sorted((each["key"], each["transition"], each["rows"]) for _, each in records) == [
        ("not_json", "opened", 2), ("wrong_type", "opened", 1)
    ]  # fmt: skip
    assert all(key == each["alert_id"].encode() for key, each in records)
    assert not any("someone" in str(each) for _, each in records)


def test_a_broker_that_is_away_is_named_and_what_opens_is_kept(
    alert_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lakehouse = LakehouseResource.from_settings(alert_settings)
    refuse(lakehouse)
    run(alert_settings)
    refuse(lakehouse, "not_json")
    away = alert_settings.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:9"})
    with pytest.raises(BrokerUnavailableError, match=r"127\.0\.0\.1:9"):
        run(away)
    table = lakehouse.find_table(ALERTS.name)
    assert table is not None and table.to_pyarrow_table()["transition"].to_pylist() == ["opened"]
    run(alert_settings)
