"""A process that commits to a table in S3, over and over: `python -m tests.integration.s3_writer NAME COMMITS`.

The lakehouse is that of the environment. It says that it is ready, and begins with a line on its standard input.
"""

from __future__ import annotations

import sys

import pyarrow as pa
from deltalake import CommitProperties, write_deltalake

from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table, name_transaction
from platform_assets.tables.spec import Column, TableSpec
from resources.lakehouse import LakehouseResource
from resources.settings import load_settings

SPEC = TableSpec(
    "platform.written", "A test's rows.", "one commit", ("writer", "n"),
    (Column("writer", "string", "Who."), Column("n", "bigint", "Which.")),
)  # fmt: skip


def main(writer: str, commits: int) -> None:
    """Appends one row a commit."""
    lakehouse = LakehouseResource.from_settings(load_settings())
    uri, options = lakehouse.table_uri(SPEC.name), lakehouse.storage_options()
    create_table(uri, SPEC, options)
    print("ready", flush=True)
    sys.stdin.readline()
    for n in range(commits):
        rows = pa.table({"writer": [writer], "n": [n]}, build_arrow_schema(SPEC))
        properties = CommitProperties(app_transactions=[name_transaction(writer, n)])
        write_deltalake(uri, rows, mode="append", storage_options=options, commit_properties=properties)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
