"""Panel `ledger`: what became of every record that was read, and whether that adds up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobs.page.kept_rows import Kept
from jobs.page.panel import Panel, PanelInput
from platform_assets.tables.platform import LEDGER

_CHECK = "ledger"

_SUMS = Kept(
    name="ledger_sums",
    table=LEDGER,
    sql="""
        SELECT query, sum(rows_in) AS read, sum(accepted) AS accepted, sum(quarantined) AS quarantined,
               sum(deduplicated) AS deduplicated, sum(coalesce(erased, 0)) AS erased, max(arrived_at) AS arrived_at
        FROM file_rows GROUP BY query""",
)


def build(given: PanelInput) -> Mapping[str, Any]:
    """The sums of each stream over Kafka, with the newest verdict of its check `ledger`."""
    columns = ("read", "accepted", "quarantined", "deduplicated", "erased")
    sums = ", ".join(f"CAST(sum({name}) AS BIGINT) AS {name}" for name in columns)
    rows = given.ask(f"SELECT query, {sums}, max(arrived_at) AS until FROM ledger_sums GROUP BY query ORDER BY query")
    tables = {stream.name: stream.main_table.name for group in given.groups for stream in group.ingest}
    return {
        "now": given.now,
        "rows": [
            {
                **row,
                "difference": row["read"] - sum(row[name] for name in columns[1:]),
                "verdict": given.platform.find_verdict(tables.get(row["query"], ""), _CHECK),
            }
            for row in rows
        ],
    }


PANEL = Panel(
    name="ledger", title="Ledger", order=80, build=build, kept=(_SUMS,), reads_platform=True, is_wide=True
)  # fmt: skip
