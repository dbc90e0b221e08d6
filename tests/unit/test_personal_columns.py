"""What names a person stays in the rows: not in a table's log, and not in what Dagster keeps."""

from __future__ import annotations

import pytest

from jobs.operations.forgetting.proof import search_files
from platform_assets.reports import REPORT_TABLES
from platform_assets.reports.customer_days import CUSTOMER_DAYS_TABLE
from platform_assets.reports.day_states import REPORT_DAYS
from platform_assets.reports.presentation import render_preview
from platform_assets.reports.whole import ALL_WHOLE_TABLES
from platform_assets.streams import load_streams
from platform_assets.tables.platform import PLATFORM_TABLES
from platform_assets.tables.spec import TableSpec
from resources.lakehouse import LakehouseResource

TABLES = [
    *(table for stream in load_streams() for table in stream.tables),
    *PLATFORM_TABLES,
    *REPORT_TABLES,
    *(whole.table for whole in ALL_WHOLE_TABLES),
]
PERSONAL = {"user_id", "event_id", "view_event_id", "purchase_event_id", "key", "value", "session_id", "member_id"}


@pytest.mark.parametrize("table", [*TABLES, REPORT_DAYS], ids=lambda table: table.name)
def test_a_log_has_no_statistics_of_columns_that_name_somebody(table: TableSpec) -> None:
    if PERSONAL & {column.name for column in table.columns}:
        assert table.statistics_columns, "without a choice Delta takes the first 32 columns"
        assert not PERSONAL & set(table.statistics_columns)


def test_a_preview_does_not_say_whose_the_rows_are() -> None:
    row = {column.name: None for column in CUSTOMER_DAYS_TABLE.columns} | {"user_id": "ann-7", "events": 5}
    shown = render_preview(CUSTOMER_DAYS_TABLE, [row])
    assert "ann-7" not in shown and "| 5 |" in shown


def test_the_proof_finds_words(tmp_path: object) -> None:
    lakehouse = LakehouseResource(root=str(tmp_path))
    lakehouse.folder.write_file("t/_delta_log/0.json", b'{"add": {"stats": "{\\"min\\": \\"ann-7\\"}"}}')
    lakehouse.folder.write_file("t/other.json", b'"ann-70" "xann-7" "ann-7-b"')
    lakehouse.folder.write_file("_checkpoints/t/state/0/1.zip", b"ann-7")
    found = search_files(lakehouse, "ann-7")
    assert (found.files, found.state_files, found.found) == (2, 1, ("t/_delta_log/0.json",))
