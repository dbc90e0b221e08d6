"""The command `headrace views`."""

from __future__ import annotations

from pathlib import Path

import click

from resources.settings import load_settings


@click.command
@click.argument("place", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
def views(place: Path) -> None:
    """Write a DuckDB file with views over all tables.

    Any DuckDB opens it, without an extension. A view shows its table as it is now: call this again for newer rows.
    """
    from jobs.operations.duckdb_views import write_views
    from resources.lakehouse import LakehouseResource

    versions = write_views(LakehouseResource.from_settings(load_settings()), place)
    for name, version in versions.items():
        print(f"{name}: version {version}")
    print(f"{place}: {len(versions)} views. They show these versions until this command is called again.")
