"""The command `headrace views`."""

from __future__ import annotations

from pathlib import Path

import click

from jobs.operations.sql_query import parse_as_of
from resources.settings import load_settings


@click.command
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--at", "at", multiple=True, help="A time for all tables, or TABLE=VERSION; may be repeated.")
@click.option("--complete", is_flag=True, help="Of the streams' tables only rows that are final.")
def views(file: Path, at: tuple[str, ...], complete: bool) -> None:
    """Write a DuckDB file with a view of each table.

    For notebooks, BI tools and dbt: they open the file, and have gold.sessions and all others by name. The views show
    the tables as they are now; run it again for a newer state.
    """
    from jobs.operations.view_file import write_view_file
    from resources.lakehouse import LakehouseResource

    lakehouse = LakehouseResource.from_settings(load_settings())
    versions = write_view_file(lakehouse, file, parse_as_of(at, is_complete=complete))
    click.echo(f"{file} has {len(versions)} views: " + ", ".join(f"{n} ({v})" for n, v in versions.items()))
