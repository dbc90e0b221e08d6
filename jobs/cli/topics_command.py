"""The command `headrace topics`."""

from __future__ import annotations

import click

from resources.settings import load_settings


@click.command
@click.option(
    "--create", is_flag=True, help="Create those that are missing, by HEADRACE_TOPIC_PARTITIONS and _REPLICATION."
)
def topics(create: bool) -> int:
    """List the topics that the enabled groups need.

    Exit code 1 where Kafka lacks one. Topics that exist are left as they are.
    """
    from jobs.operations.needed_topics import create_topic, find_topics, list_needed
    from platform_assets.alerting.catalogue import load_groups
    from resources.embedded.servers import running_servers
    from resources.kafka import KafkaResource

    settings = load_settings()
    missing = 0
    with running_servers(settings), KafkaResource.from_settings(settings) as kafka:
        for found in find_topics(list_needed(load_groups(), settings), kafka):
            topic, partitions, state = found.needed, found.partitions, "exists"
            if not partitions and create:
                partitions, state = create_topic(topic, settings, kafka), "created"
            elif not partitions:
                missing, state = missing + 1, "missing"
            use = "is read by" if topic.is_read else "is written by"
            print(f"{topic.name}: {state}, {partitions} partitions, {use} {topic.user}")
    if missing:
        print("Create what is missing with: headrace topics --create, or by Kafka's own tools.")
    return min(missing, 1)
