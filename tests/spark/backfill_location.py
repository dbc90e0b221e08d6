"""The reports by Spark as a code location for a daemon of its own; `test_backfill_with_holes` runs it."""

from __future__ import annotations

import dagster as dg

from platform_assets.reports import build_report_assets
from resources.duckdb import DuckDBResource
from resources.lakehouse import LakehouseResource
from resources.settings import load_settings
from resources.spark.session import SparkResource

defs = dg.Definitions(
    assets=build_report_assets("spark", load_settings().first_day),
    executor=dg.in_process_executor,
    resources={
        "duckdb": DuckDBResource(),
        "spark": SparkResource(app_name="reports"),
        "lakehouse": LakehouseResource(root=load_settings().lakehouse),
    },
)
