"""The tables that are computed whole as Dagster assets of one op. The nightly run of the reports computes them too."""

# No postponed annotations in this file: Dagster reads those of assets and checks at definition time.
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from platform_assets.reports.assets import REPORTS_POOL
from platform_assets.reports.daily_report import PinnedTable, pin_table, remove_replaced_files
from platform_assets.reports.presentation import PREVIEW_ROWS, build_column_schema, describe_rows
from platform_assets.reports.report_engine import Engines, opened_engines
from platform_assets.reports.whole.whole_commit import WholeCommit, write_rows
from platform_assets.reports.whole.whole_table import WholeTable

# One run a night, and the time of one that was missed.
_FRESHNESS = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=50), warn_window=timedelta(hours=26))


def build_whole_assets(wholes: Sequence[WholeTable]) -> list[dg.AssetsDefinition]:
    """One op for these tables, in the group of the reports; none for no tables.

    Needs the resources `lakehouse` and `duckdb`. A table that fails does not keep the others from being computed.
    """
    if not wholes:
        return []

    @dg.multi_asset(
        name="compute_whole_tables",
        specs=[_describe(whole) for whole in wholes],
        can_subset=True,
        pool=REPORTS_POOL,
        required_resource_keys={"duckdb", "lakehouse"},
    )
    def compute_whole_tables(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any]]:
        failures = []
        with opened_engines("duckdb", context.resources) as engines:
            for whole in wholes:
                key = dg.AssetKey(whole.table.asset_path)
                if key not in context.selected_asset_keys:
                    continue
                try:
                    metadata = compute_whole(whole, engines, context.resources.lakehouse, datetime.now(UTC))
                except dg.Failure as failure:
                    failures.append(f"{whole.table.name}: {failure.description}")
                except Exception as error:
                    failures.append(f"{whole.table.name}: {type(error).__name__}: {error}")
                    context.log.error(f"{whole.table.name} failed.", exc_info=True)
                else:
                    yield dg.MaterializeResult(asset_key=key, metadata=metadata)
        if failures:
            raise dg.Failure("\n".join(failures), allow_retries=False)

    return [compute_whole_tables]


def compute_whole(whole: WholeTable, engines: Engines, lakehouse: Any, now: datetime) -> dict[str, Any]:
    """Computes the table from what its inputs hold, and writes it; the materialization's metadata.

    Raises `dg.Failure` where an input does not exist.
    """
    pinned: list[PinnedTable] = [pin_table(lakehouse, source.table) for source in whole.inputs]
    inputs = [source.rows_of(table, now) for source, table in zip(whole.inputs, pinned, strict=True)]
    computed = whole.compute(engines.looks, inputs, now)
    commit = WholeCommit({table.name: table.version for table in pinned}, computed.measured)
    write_rows(lakehouse, whole.table, computed.rows, commit.as_json(), whole.part)
    table = lakehouse.delta_table(whole.table.name)
    remove_replaced_files(table)
    preview = computed.rows.slice(0, PREVIEW_ROWS).to_pylist()
    return {
        **describe_rows(whole.table, len(computed.rows), preview, table.version()),
        "headrace/inputs": json.dumps(dict(commit.inputs)),
        **{f"headrace/{name}": float(value) for name, value in computed.measured.items()},
    }


def _describe(whole: WholeTable) -> dg.AssetSpec:
    table = whole.table
    return dg.AssetSpec(
        list(table.asset_path),
        deps=[dg.AssetKey(source.table.asset_path) for source in whole.inputs],
        description=f"{table.description}\n\nGrain: {table.grain}. Computed each night.",
        kinds={"duckdb", "deltalake"},
        metadata={"dagster/table_name": table.name, "dagster/column_schema": build_column_schema(table)},
        group_name="reports",
        owners=["team:data-platform"],
        freshness_policy=_FRESHNESS,
        skippable=True,
    )
