"""The reports over telemetry by Spark: the rows that DuckDB computes, exactly, for a range of days."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import pytest

from platform_assets.reports.report_engine import EngineName
from resources.lakehouse import LakehouseResource
from tests.spark.report_cases import read_rows
from tests.telemetry_lake import DAY, ONE_DAY, REPORTS, run, tell_history, write

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.mark.long
def test_spark_as_the_engine_writes_the_same_days(spark: SparkSession, tmp_path: Path) -> None:
    both = {name: LakehouseResource(root=str(tmp_path / name / "lakehouse")) for name in get_args(EngineName)}
    readings = tell_history(random.Random(4), 5)
    for engine, lakehouse in both.items():
        write(lakehouse, readings)
        assert run(lakehouse, DAY, DAY + ONE_DAY, spark=spark if engine == "spark" else None).success
    for report in REPORTS:
        by_duckdb, by_spark = (read_rows(lakehouse, report.table.name) for lakehouse in both.values())
        assert by_duckdb == by_spark
        assert {row["report_date"] for row in by_duckdb} == {DAY, DAY + ONE_DAY}
