"""The command `headrace sql`."""

from __future__ import annotations

import contextlib
import io
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from jobs.cli.shown_text import show
from jobs.operations.sql_query import FileFormat, open_answer, parse_as_of
from platform_assets.errors import UsageError
from resources.settings import load_settings

if TYPE_CHECKING:
    import duckdb

_STDOUT = Path("/dev/stdout")
_WIDTH_OF_A_PIPE = 200


@click.command
@click.argument("query")
@click.option("--at", "at", multiple=True, help="A time for all tables, or TABLE=VERSION; may be repeated.")
@click.option("--complete", is_flag=True, help="Of the streams' tables only rows that are final.")
@click.option(
    "--format", "file_format", type=click.Choice(get_args(FileFormat)), help="All rows, instead of a picture."
)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="A file for them (default: stdout).")
@click.option("--most", type=click.IntRange(1), default=40, show_default=True, help="The rows of the picture.")
def sql(
    query: str, at: tuple[str, ...], complete: bool, file_format: FileFormat | None, output: Path | None, most: int
) -> None:
    """Ask all tables in SQL.

    In DuckDB's dialect, such as "select count(*) from silver.events". Changes nothing. Tables are read as they are now,
    or as they were --at a time or a version.
    """
    from resources.duckdb import DuckDBResource
    from resources.lakehouse import LakehouseResource

    if output and not file_format:
        raise UsageError("--output needs --format: csv, json or parquet.")
    if file_format == "parquet" and not output:
        raise UsageError("--format parquet needs --output: it is no text.")
    settings = load_settings()
    lakehouse, engine = LakehouseResource.from_settings(settings), DuckDBResource.from_settings(settings)
    as_of = parse_as_of(at, is_complete=complete)
    with open_answer(lakehouse, engine, query, as_of) as answer:
        if file_format:
            answer.write(output or _STDOUT, file_format)
        else:
            _draw(answer.rows, most)


def _draw(rows: duckdb.DuckDBPyRelation, most: int) -> None:
    """Prints the first rows; texts cannot steer the terminal."""
    width = shutil.get_terminal_size((_WIDTH_OF_A_PIPE, 0)).columns
    with contextlib.redirect_stdout(io.StringIO()) as drawn:
        rows.show(max_rows=most, max_width=width)
    for line in drawn.getvalue().splitlines():
        sys.stdout.write(f"{show(line)}\n")
