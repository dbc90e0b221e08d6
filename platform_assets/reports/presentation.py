"""How a report's rows look on the pages of Dagster: counts, schema, a preview."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from platform_assets.tables.spec import TableSpec

# Rows of a result that the asset's page shows: more would not fit a screen and would be stored with every event.
PREVIEW_ROWS = 10


def describe_rows(spec: TableSpec, count: int, preview: Sequence[Mapping[str, Any]], version: int) -> dict[str, Any]:
    """The metadata of a materialization that wrote `count` rows, some of them in `preview`, as this version."""
    return {
        "dagster/row_count": dg.MetadataValue.int(count),
        "dagster/table_name": dg.MetadataValue.text(spec.name),
        "delta/version": dg.MetadataValue.int(version),
        "preview": dg.MetadataValue.md(render_preview(spec, preview)),
    }


def build_column_schema(spec: TableSpec) -> dg.TableSchema:
    """The table's columns as Dagster shows them."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                c.name, c.type, description=c.description, constraints=dg.TableColumnConstraints(nullable=c.nullable)
            )
            for c in spec.columns
        ]
    )


def render_preview(spec: TableSpec, rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as a Markdown table in the spec's column order, without whose they are; a sentence when there are none."""
    # Dagster keeps what it is told for ever, beyond the reach of `headrace forget-user`.
    return render_table([c.name for c in spec.columns if c.name not in ("user_id", spec.roles.user_id)], rows)


def render_table(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """These columns of rows as a Markdown table; a sentence when there are none."""
    if not rows:
        return "No rows."
    lines = ["| " + " | ".join(names) + " |", "|" + " --- |" * len(names)]
    lines += ["| " + " | ".join(_escape(render_value(row[name])) for name in names) + " |" for row in rows]
    return "\n".join(lines)


def render_value(value: Any) -> str:
    """A value as people read it."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1 else f"{value:,.2f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _escape(text: str) -> str:
    # User data in a Markdown table: a pipe would open a column, a line break would end the table, a tag would be HTML.
    return text.replace("|", "\\|").replace("\n", " ").replace("\r", " ").replace("<", "&lt;")
