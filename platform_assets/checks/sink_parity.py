"""The check `sink_parity` on a table in Postgres: it is what its sink has written, and that is the Delta table."""

# No postponed annotations in this file: Dagster reads those of assets and checks at definition time.
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg

from platform_assets.errors import DatabaseUnavailableError, HeadraceError
from platform_assets.sinks.target import Target
from platform_assets.stream_assets import sink_asset_key
from platform_assets.tables.spec import TableSpec
from resources.settings import load_settings

if TYPE_CHECKING:
    from platform_assets.sinks.comparison import Comparison

SINK_PARITY = "sink_parity"


def build_sink_check(table: TableSpec) -> dg.AssetChecksDefinition:
    """The check of one table; needs the resources `lakehouse` and `duckdb`.

    It reads the whole table in Postgres once. A database that does not answer is a warning: no row is wrong.
    """

    @dg.asset_check(
        asset=sink_asset_key(table),
        name=SINK_PARITY,
        description=f"The table in Postgres has the rows of {table.name} at its version, day by day, and no others.",
        required_resource_keys={"lakehouse", "duckdb"},
    )
    def sink_parity(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        from platform_assets.sinks.comparison import compare

        settings, resources = load_settings(), context.resources
        target, url = Target(table, settings.postgres_schema), settings.postgres_url.get_secret_value()
        try:
            return judge(compare(target, url, resources.lakehouse, resources.duckdb), table.name)
        except DatabaseUnavailableError as error:
            return dg.AssetCheckResult(passed=False, severity=dg.AssetCheckSeverity.WARN, description=str(error))
        except HeadraceError as error:
            return dg.AssetCheckResult(passed=False, description=str(error))

    return sink_parity


def judge(found: "Comparison", table: str) -> dg.AssetCheckResult:
    """What a comparison means as a verdict: breaches are an error, a load that has not ended is a warning."""
    if found.version is None:
        return dg.AssetCheckResult(
            passed=found.newest_version is None,
            severity=dg.AssetCheckSeverity.WARN,
            description=f"{table} is not loaded into Postgres yet.",
        )
    behind = None if found.newest_version is None else max(0, found.newest_version - found.version)
    said = f"Version {found.version} of {table}, {found.rows:,} rows; the Delta table is {behind} versions further."
    fix = f"Have it made anew: headrace sink resync {table} --because ..."
    metadata: dict[str, int | float | str] = {"sink/version": found.version, "sink/rows": found.rows}
    if behind is not None:
        metadata["sink/versions_behind"] = behind
    if found.applied_at is not None:
        metadata["sink/applied_at"] = found.applied_at.isoformat()
        metadata["sink/seconds_since_applied"] = round((datetime.now(UTC) - found.applied_at).total_seconds(), 1)
    metadata["sink/compared_with_delta"] = str(found.counted_days)
    return dg.AssetCheckResult(
        passed=not found.breaches,
        description=" ".join([*found.breaches, fix]) if found.breaches else said,
        metadata=metadata,
    )
