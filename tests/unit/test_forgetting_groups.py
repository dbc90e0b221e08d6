"""A user is erased from every topic with users whose tables are there, or from none."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.operations.forgetting.topics import demand_all_enabled
from platform_assets.errors import UsageError
from platform_assets.streaming.delta.delta_tables import create_table
from platform_assets.streams import load_all_stream_groups
from platform_assets.topics.transactions import TRANSACTIONS
from resources.lakehouse import LakehouseResource

GROUPS = load_all_stream_groups()
SHOP = [group for group in GROUPS if group.name == "clickstream"]


def test_tables_of_a_group_that_is_not_enabled_are_not_passed_over(tmp_path: Path) -> None:
    lakehouse = LakehouseResource(root=str(tmp_path))
    demand_all_enabled(GROUPS, SHOP, lakehouse)
    create_table(lakehouse.table_uri(TRANSACTIONS.name), TRANSACTIONS)
    with pytest.raises(UsageError, match=r"silver\.transactions .* HEADRACE_GROUPS=clickstream,payments\.$"):
        demand_all_enabled(GROUPS, SHOP, lakehouse)
    demand_all_enabled(GROUPS, GROUPS, lakehouse)
