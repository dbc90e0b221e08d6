"""Finds where a publisher begins in its table, and whether the topic is still the one that its position stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from platform_assets.errors import NotReadyError
from platform_assets.publishing.position import PublishedPosition
from resources.kafka_records import read_newest_versions

if TYPE_CHECKING:
    from platform_assets.sinks.table_log import TableLog
    from resources.kafka import KafkaResource
    from resources.lakehouse import LakehouseResource


class StartPositions:
    """The start positions of one table in its topic.

    The methods raise what Kafka's clients and the lakehouse's disk or store do.
    """

    def __init__(
        self, topic: str, table_name: str, kafka: KafkaResource, lakehouse: LakehouseResource, log: TableLog
    ) -> None:
        """Contacts nobody."""
        self._topic, self._table_name = topic, table_name
        self._kafka, self._lakehouse, self._log = kafka, lakehouse, log

    def read_topic_id(self) -> str:
        """The cluster's id of the topic; raises `MissingTopicError` too."""
        self._kafka.partitions(self._topic)
        return self._kafka.topic_id(self._topic)

    def find_newest(self) -> PublishedPosition | None:
        """The table's newest version; None where there is no table, or as in `find`."""
        table = self._lakehouse.find_table(self._table_name)
        return None if table is None else self.find(table.version())

    def find(self, version: int) -> PublishedPosition | None:
        """This version, as if all of it were published; None where the log does not hold its commit.

        So it is of a log that ends with a checkpoint: the next commit of its writer is held.
        """
        table, digest = self._lakehouse.find_table(self._table_name), self._log.read_digest(version)
        if table is None or digest is None:
            return None
        return PublishedPosition(str(table.metadata().id), version, digest, self.read_topic_id())

    def find_sent_by_stream(self, after: PublishedPosition | None) -> PublishedPosition | None:
        """The version behind `after` up to which the stream itself has published, by the other setting."""
        for version, sent_at in sorted(read_newest_versions(self._kafka, self._topic), reverse=True):
            if after is not None and version <= after.version:
                return None
            found, committed_at = self.find(version), self._log.read_time(version)
            # Of a table that was made anew the topic may have higher versions, older than those commits.
            if found is not None and committed_at is not None and committed_at <= sent_at:
                return found
        return None

    def demand_alone(self, position: PublishedPosition | None, sent_table_id: str | None) -> None:
        """Raises `NotReadyError` where the topic has got another table since `sent_table_id`, which is still there.

        Two platforms would send their whole tables in turn, for ever.
        """
        if position is None or sent_table_id in (None, position.table_id):
            return
        table = self._lakehouse.find_table(self._table_name)
        if table is not None and str(table.metadata().id) == sent_table_id:
            raise NotReadyError(
                f"Another platform publishes to the topic {self._topic} too, from a table {self._table_name} of its "
                "own. Give one of them another topic, or unset HEADRACE_PUBLISH_TRANSACTIONAL there. The records of "
                "both are in the topic: make it anew, and it gets the whole table."
            )
