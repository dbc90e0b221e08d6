"""The command `headrace new-topic`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from jobs.cli.shown_text import show
from platform_assets.errors import UsageError

if TYPE_CHECKING:
    from platform_assets.streaming.formats.registered_schema import RegisteredSchema


@click.command("new-topic")
@click.argument("name")
@click.option(
    "--from", "file", type=click.Path(path_type=Path), metavar="FILE",
    help="Samples: JSON lines, CSV, Parquet, or a .log of text lines; the first three may be compressed. Or a schema: "
    ".avsc, .proto, or .json with a JSON Schema.",
)  # fmt: skip
@click.option("--subject", metavar="S", help="Instead of a file: the newest schema of this subject of the registry.")
@click.option("--message", default="", metavar="M", help="The type of the records, where a schema has several.")
@click.option(
    "--kafka-topic", default="", metavar="T",
    help="Its name on the broker (default: that of the subject without -value, else NAME with - for _).",
)  # fmt: skip
def new_topic(name: str, file: Path | None, subject: str | None, message: str, kafka_topic: str) -> None:
    """Write a new topic from samples or a schema.

    A topic, a first stream over it, a group and a test; what was decided is printed. More in docs/adding-a-topic.md.
    """
    from jobs.operations.new_topic.schema_files import read_schema

    if (file is None) == (not subject):
        raise UsageError("Give one of --from FILE and --subject SUBJECT.")
    schema, origin = (None, "") if file is None else (read_schema(file), str(file))
    if subject:
        schema, origin = _fetch(subject)
    if schema is not None:
        from jobs.operations.new_topic.schema_command import create_topic_of_schema

        create_topic_of_schema(name, schema, kafka_topic, _say, origin=origin, subject=subject or "", message=message)
        click.echo(f"Next: headrace check-contract {name}, then HEADRACE_GROUPS={name} headrace drain, with your")
        click.echo("registry in HEADRACE_SCHEMA_REGISTRY_URL. The simulator makes no values by schemas.")
        return
    if message:
        raise UsageError(f"--message is for schemas, and {file} holds samples.")
    from jobs.operations.new_topic.command import create_topic

    assert file is not None, "There is a file or a subject."
    create_topic(name, file, kafka_topic, click.echo)
    click.echo(f"Next: headrace simulate --topic {name} --count 1000, then HEADRACE_GROUPS={name} headrace drain")


def _fetch(subject: str) -> tuple[RegisteredSchema, str]:
    from jobs.operations.new_topic.schema_command import fetch_newest
    from resources.embedded.registry import running_registry
    from resources.settings import load_settings

    with running_registry(load_settings()) as registry:
        return fetch_newest(registry, subject)


def _say(sentence: str) -> None:
    click.echo(show(sentence))
