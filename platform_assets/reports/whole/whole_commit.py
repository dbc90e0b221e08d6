"""How a table that is computed whole is written: in one commit that names the versions of its inputs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from platform_assets.reports.concurrent_runs import commit_over_others
from platform_assets.tables.spec import TableSpec

if TYPE_CHECKING:
    import pyarrow as pa

# A look-up of one user reads one row group of this many rows; smaller ones make the file's footer long.
_GROUP_ROWS = 8_192
# Above the newest commit with rows lie those of the table's upkeep only.
_COMMITS_SEARCHED = 20


@dataclass(frozen=True)
class WholeCommit:
    """What a commit says about itself: the versions of the inputs, and what was measured."""

    inputs: Mapping[str, int]
    measured: Mapping[str, float]

    def as_json(self) -> str:
        """The text for Delta's `userMetadata`, in which `ReportCommit` finds the inputs too."""
        return json.dumps({"report": {"inputs": dict(self.inputs), "measured": dict(self.measured)}})


def find_commit(table: Any) -> WholeCommit | None:
    """What the newest commit with rows says; None where there is none.

    A commit of a part of the table repeats what was measured: older commits leave the log within hours.
    """
    for commit in table.history(_COMMITS_SEARCHED):
        text = commit.get("userMetadata") or ""
        if text.startswith('{"report"') and "measured" in (body := json.loads(text)["report"]):
            return WholeCommit(body["inputs"], body["measured"])
    return None


def write_rows(lakehouse: Any, spec: TableSpec, rows: pa.Table, metadata: str, part: str = "") -> None:
    """Puts the rows in the place of the table's, or of those of `part`, in one commit; creates the table."""
    from deltalake import CommitProperties, WriterProperties, write_deltalake

    from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table

    schema = build_arrow_schema(spec)
    rows = rows.select(schema.names).cast(schema)

    def write() -> None:
        table = create_table(lakehouse.table_uri(spec.name), spec, lakehouse.storage_options())
        write_deltalake(
            table, rows, mode="overwrite", predicate=part or None,
            commit_properties=CommitProperties(custom_metadata={"userMetadata": metadata}),
            writer_properties=WriterProperties(max_row_group_size=_GROUP_ROWS),
        )  # fmt: skip

    commit_over_others(write)
