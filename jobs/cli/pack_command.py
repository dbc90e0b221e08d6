"""The command `headrace pack`: what executors on other machines need of this environment, in one file."""

from __future__ import annotations

import click

from resources.settings import load_settings


@click.command
def pack() -> None:
    """Make the archive of code for executors on a cluster.

    It is for the Python version and the kind of machine that this runs on, and is sent to executors at each start.
    Run it again after each change of code or packages; a start on a cluster is refused until then.
    """
    from resources.spark.executor_archive import archive_path, build_archive, read_label

    path = archive_path(load_settings())
    size = build_archive(path)
    label = read_label(path)
    print(f"{path}: {size / 2**20:.0f} MiB, code {label['code']}, {len(label['packages'])} packages.")
    print(f"Each worker needs Python {label['python']} ({label['machine']}) and Spark {label['packages']['pyspark']}.")
