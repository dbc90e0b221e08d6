"""The group `published` with the rights that docs/security.md names, and with each of them missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AclOperation, ResourceType

from platform_assets.errors import BrokerRefusedError, BrokerUnavailableError, HeadraceError
from platform_assets.publishing.publish_group import PublishGroup
from platform_assets.publishing.selection import POSITIONS_TOPIC
from resources.duckdb import DuckDBResource
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.secured_broker import ADMIN, Right, SecuredBroker, topic_rights
from tests.unit.publishing.published_table import PublishedTable, build_stream, read_committed
from tests.unit.sinks.sunk_table import build_row, wait_for

pytestmark = pytest.mark.release


def publish(published: PublishedTable, settings: Settings, kafka: KafkaResource) -> HeadraceError | None:
    """Has a group, as `drain` starts it, publish all that there is; returns why it could not."""
    lakehouse = published.table.lakehouse
    group = PublishGroup([build_stream(published.topic)], settings, kafka, lakehouse, None)
    group.start(bounded=True)
    wait_for(lambda: group.is_finished() or group.failure() is not None, "the group has ended")
    group.stop(10.0)
    return group.failure()


def test_a_publisher_needs_the_rights_of_the_table_and_names_each_that_is_missing(
    secured: SecuredBroker, tmp_path: Path
) -> None:
    account = topic = f"publisher-{tmp_path.name}"
    for name in (topic, POSITIONS_TOPIC):
        secured.ensure_topic(name)
    settings = secured.settings(tmp_path / "home", secured.add_account(account))
    identity = f"headrace-publish-{topic}"
    rights: dict[str, Any] = {
        f"Write on topic {topic} to ": topic_rights(account, topic, "WRITE"),
        f"Read on topic {topic} to ": topic_rights(account, topic, "READ"),
        f"Write on topic {POSITIONS_TOPIC} to ": topic_rights(account, POSITIONS_TOPIC, "WRITE"),
        f"Read on topic {POSITIONS_TOPIC} to ": topic_rights(account, POSITIONS_TOPIC, "READ"),
        f"Write on transactional-id {identity} to ": [
            Right(account, AclOperation.WRITE, ResourceType.TRANSACTIONAL_ID, identity)
        ],
    }
    # Each of these comes with Read or Write: an account that has neither is told of the first that is missing.
    seen = [right for name in (topic, POSITIONS_TOPIC) for right in topic_rights(account, name, "DESCRIBE")]
    engine = DuckDBResource.from_settings(settings)
    with KafkaResource.from_settings(settings) as kafka, secured.administrator() as administrator:
        published = PublishedTable(administrator, LakehouseResource.from_settings(settings), engine, topic)
        published.table.append([build_row(0)])
        for right in seen:
            refused = publish(published, settings, kafka)
            assert isinstance(refused, BrokerRefusedError)
            assert f"refuses Describe on topic {right.name} to " in str(refused)
            secured.grant(right)
        secured.grant(*(right for each in rights.values() for right in each))
        assert publish(published, settings, kafka) is None
        running = published.open_publisher(kafka=kafka)
        published.follow(running)
        for number, (says, missing) in enumerate(rights.items(), 1):
            secured.revoke(*missing)
            published.table.append([build_row(number)])
            refused = publish(published, settings, kafka)
            assert isinstance(refused, BrokerRefusedError), says
            assert f"refuses {says}" in str(refused) and "\n" not in str(refused)
            running.close()  # as the group does after an error
            with pytest.raises(BrokerRefusedError, match=f"refuses {says}"):
                published.follow(running)
            secured.grant(*missing)
            assert publish(published, settings, kafka) is None
            assert len(read_committed(administrator, topic)) == 1 + number
        published.demand_exact()


def test_a_broker_that_restarts_within_a_transaction_has_each_version_once(
    secured: SecuredBroker, tmp_path: Path
) -> None:
    topic, restarts = f"restarted-{tmp_path.name}", 0
    for name in (topic, POSITIONS_TOPIC):
        secured.ensure_topic(name)
    settings = secured.settings(tmp_path / "home", secured.options_of_certificate(ADMIN))

    def restart() -> None:
        """Called right before the second commit, as the check of a lease is."""
        nonlocal restarts
        restarts += 1
        if restarts == 2:
            secured.stop()
            secured.start()

    with secured.administrator() as kafka:
        engine = DuckDBResource.from_settings(settings)
        published = PublishedTable(kafka, LakehouseResource.from_settings(settings), engine, topic)
        published.table.append([build_row(1), build_row(2)])
        publisher = published.open_publisher(check_lease=restart)

        def is_published() -> bool:
            try:
                published.follow(publisher)
            except BrokerUnavailableError:  # Kafka may have ended the transaction, or not answer yet
                publisher.close()
            return publisher.version == published.table.open_table().version()

        wait_for(is_published, "the first version is published")
        published.table.append([build_row(3)])
        published.table.upsert([build_row(1, text="new")])
        wait_for(is_published, "it goes on behind the restart")
        assert restarts > 2
        published.demand_exact()
        assert len(published.read()) == 4
