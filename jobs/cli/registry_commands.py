"""The command `headrace check-contract`."""

from __future__ import annotations

from contextlib import ExitStack

import click

from jobs.cli.shown_text import show
from resources.settings import load_settings


@click.command("check-contract")
@click.argument("names", nargs=-1, metavar="[TOPIC]...")
@click.option("--held", is_flag=True, help="Of older versions judge those only whose records Kafka still holds.")
def check_contract(names: tuple[str, ...], held: bool) -> int:
    """Compare topics with their schemas in the registry.

    For CI: exit code 1 where the contract of a TOPIC (default: all that have schemas) cannot read a version, or a
    number has another meaning in another version. --held reads each topic from end to end. More in docs/formats.md.
    """
    from jobs.operations import check_contract as operation
    from platform_assets.topics import load_topics
    from resources.embedded.broker import running_broker
    from resources.embedded.registry import running_registry
    from resources.kafka import KafkaResource

    settings = load_settings()
    topics = operation.choose_topics(load_topics(), names)
    if not topics:
        print("No topic has values that schemas of a registry write.")
        return 0
    has_failed = False
    with ExitStack() as stack:
        registry = stack.enter_context(running_registry(settings))
        kafka = None
        if held:
            stack.enter_context(running_broker(settings))
            kafka = stack.enter_context(KafkaResource.from_settings(settings))
        for topic in topics:
            name = topic.kafka_topic or settings.topic
            ids = None if kafka is None else operation.read_held_ids(kafka, name)
            said = operation.check_contract(topic, registry, ids, kafka_topic=name)
            for each in said:
                print(show(f"{topic.name}: {'FAILED: ' if each.is_failure else 'note: '}{each.text}"))
            fails = any(each.is_failure for each in said)
            has_failed |= fails
            if not fails:
                print(f"{topic.name}: the contract reads all versions.")
    return int(has_failed)
