"""The check that says when a topic may lose acknowledged records, or stand still, with one broker."""

# No postponed annotations in this file: Dagster reads those of assets and checks at definition time.
from collections.abc import Iterable, Mapping

import dagster as dg

from platform_assets.kafka_replication import Replication, find_weaknesses
from platform_assets.streaming.stream_spec import KafkaStream
from resources.kafka_topics import read_replication

REPLICATION = "replication"


def judge(found: Replication, topic: str) -> dg.AssetCheckResult:
    """The verdict: a warning with what to set."""
    numbers = {
        "kafka/brokers": found.brokers,
        "kafka/replicas": found.replicas,
        "kafka/min_insync_replicas": found.min_in_sync,
    }
    if weaknesses := find_weaknesses(found):
        text = f"Topic {topic}: {' '.join(weaknesses)} See docs/kafka-cluster.md."
        return dg.AssetCheckResult(
            passed=False, severity=dg.AssetCheckSeverity.WARN, description=text, metadata=numbers
        )
    said = "One broker has all records." if found.replicas == 1 else "No single broker is needed."
    return dg.AssetCheckResult(passed=True, description=said, metadata=numbers)


def build_replication_checks(
    streams: Iterable[KafkaStream], topics: Mapping[str, str]
) -> list[dg.AssetChecksDefinition]:
    """One check `replication` for each stream over Kafka, of the topic that it reads; needs `kafka`."""
    return [_build_check(stream, topics[stream.name]) for stream in streams]


def _build_check(stream: KafkaStream, topic: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=list(stream.main_table.asset_path),
        name=REPLICATION,
        description=f"No broker's loss takes acknowledged records of {topic} away, or stops its readers and writers.",
        required_resource_keys={"kafka"},
    )
    def replication_check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        return judge(read_replication(context.resources.kafka, topic), topic)

    return replication_check
