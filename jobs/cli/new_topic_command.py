"""The command `headrace new-topic`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("new-topic")
@click.argument("name")
@click.option(
    "--from", "samples", type=click.Path(path_type=Path), required=True, metavar="FILE",
    help="Samples: JSON lines, CSV, Parquet, or a .log of text lines; the first three may be compressed.",
)  # fmt: skip
@click.option("--kafka-topic", default="", metavar="T", help="Its name on the broker (default: NAME with - for _).")
def new_topic(name: str, samples: Path, kafka_topic: str) -> None:
    """Write the files of a new topic, inferred from samples.

    A topic, a first stream over it, a group and a test; what was decided is printed. More in docs/adding-a-topic.md.
    """
    from jobs.operations.new_topic.command import create_topic

    create_topic(name, samples, kafka_topic, click.echo)
    click.echo(f"Next: let your producers send to the topic, then HEADRACE_GROUPS={name} headrace drain")
