"""The setting makes a group of what is published by transactions, and the streams leave their topics to it."""

from __future__ import annotations

from dataclasses import replace

import dagster as dg
import pytest

from jobs.operations.forgetting.published import publish_erasure
from jobs.operations.needed_topics import list_needed
from jobs.supervision.application import open_application
from jobs.supervision.fingerprint import build_fingerprint
from jobs.supervision.stream_context import build_stream_context
from jobs.supervision.stream_running import name_main_assets
from platform_assets.alerting.catalogue import load_groups
from platform_assets.definitions import defs
from platform_assets.errors import BrokerUnavailableError, CatalogueError, SettingError
from platform_assets.publishing.record_writer import RecordWriter
from platform_assets.publishing.selection import GROUP_NAME, POSITIONS_TOPIC, select_transactional
from platform_assets.sinks import catalogue as sinks
from platform_assets.streaming.stream_spec import StreamGroup
from platform_assets.streams.card_holds import STREAM as CARD_HOLDS
from platform_assets.streams.high_value_users import STREAM
from platform_assets.tables.spec import Column
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings, load_settings
from tests.unit.publishing.published_table import TABLE, PublishedTable, build_stream
from tests.unit.sinks.sunk_table import build_row

GROUP = StreamGroup(GROUP_NAME, (), f"closed_days_{GROUP_NAME}", published=(STREAM,))
KEY = dg.AssetKey(["kafka", "high_value_users"])


@pytest.fixture
def transactional(monkeypatch: pytest.MonkeyPatch, fresh_settings: None) -> None:
    monkeypatch.setenv("HEADRACE_PUBLISH_TRANSACTIONAL", "true")


def test_published_topics_are_a_group_behind_the_streams(transactional: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [(group.name, group.query_names) for group in load_groups()][1:] == [
        ("published", ("publish_high_value_users",))
    ]
    names = {topic.name: topic.is_compacted for topic in list_needed(load_groups(), load_settings())}
    assert names[POSITIONS_TOPIC] and names["high-value-users"]
    taken = replace(GROUP, published=(), streams=(STREAM,))
    monkeypatch.setattr(sinks, "load_groups", lambda: (taken,))
    with pytest.raises(CatalogueError, match="Rename it"):
        load_groups()


def test_without_the_setting_there_is_no_such_group(fresh_settings: None) -> None:
    assert [group.published for group in load_groups()] == [()]
    assert select_transactional([STREAM], Settings(publish_transactional=True, publish=False)) == ()
    chosen = select_transactional([STREAM, CARD_HOLDS], Settings(publish_transactional=True))
    assert chosen == (STREAM,), "a topic of states is none"


def test_its_topic_is_an_asset_with_its_check(transactional: None) -> None:
    graph = defs().get_repository_def().asset_graph
    assert graph.get(KEY).parent_keys == {dg.AssetKey(["gold", "high_value_users"])}
    assert {check.name for check in graph.asset_check_keys if check.asset_key == KEY} == {"stream_running"}
    assert name_main_assets(GROUP) == {"publish_high_value_users": KEY}


def test_a_new_column_of_its_table_replaces_the_run(settings: Settings) -> None:
    table = STREAM.main_table
    grown = replace(table, columns=(*table.columns, Column("more", "string", "New.")))
    other = replace(GROUP, published=(replace(STREAM, tables=(grown,)),))
    assert build_fingerprint(GROUP, settings) != build_fingerprint(other, settings)


def test_streams_leave_such_a_topic_alone(
    kafka: KafkaResource, lakehouse: LakehouseResource, settings: Settings
) -> None:
    for is_transactional, wanted in ((True, frozenset()), (False, frozenset({"high-value-users"}))):
        chosen = settings.model_copy(update={"publish_transactional": is_transactional})
        assert build_stream_context(chosen, kafka, lakehouse, [STREAM]).publish_topics == wanted


def test_its_application_has_no_spark(kafka: KafkaResource, settings: Settings) -> None:
    there = settings.model_copy(update={"kafka_bootstrap_servers": kafka.servers()})
    with open_application(GROUP, there, 0) as application:
        assert application.jvm_pid is None
        group = application.build_group()
        assert group.progress() == {} and group.failure() is None


def test_a_table_that_no_schema_is_written_of_is_refused() -> None:
    keyed = replace(TABLE, columns=(*TABLE.columns, Column("by_number", "map<bigint,string>", "Refused.")))
    with pytest.raises(SettingError, match="unset HEADRACE_PUBLISH_TRANSACTIONAL"):
        RecordWriter(replace(build_stream("topic"), tables=(keyed,)), None)


def test_an_erasure_is_published_before_files_go(published: PublishedTable, settings: Settings) -> None:
    published.table.append([build_row(1), build_row(2)])
    published.follow()
    published.table.delete([2])
    groups = [replace(GROUP, published=(build_stream(published.topic),))]
    lakehouse = published.table.lakehouse
    assert publish_erasure([StreamGroup("other", ())], settings, published.kafka, lakehouse, lambda: None, print) == ()
    said = publish_erasure(groups, settings, published.kafka, lakehouse, lambda: None, print)
    assert [sentence.startswith(f"Topic {published.topic}: the user's keys") for sentence in said] == [True]
    assert [record.headers["batch"] for record in published.read() if record.value is None] == ["other"]

    def refuse() -> None:
        raise BrokerUnavailableError("Kafka does not answer.")

    published.table.delete([1])
    with pytest.raises(BrokerUnavailableError):
        publish_erasure(groups, settings, published.kafka, lakehouse, refuse, print)
