"""Checks that the reports add up: recomputed from their inputs by another engine (Polars), with zero tolerance.

Each report's commit names the days it replaced and the version of the input it read, so a report is compared with
exactly the rows it was made from, however much has been written since. The days of the newest commit are compared, and
one older day in its turn; the customers' table as a whole. Every column is compared: counts, times and texts exactly;
rates that are one division exactly; percentiles, means of lengths, the average order and the lift of the correlations
to a relative 1e-9; sums of money to the cent; JSON by its parsed value.
"""

# No postponed annotations in this file: Dagster reads those of assets and checks at definition time.
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

from platform_assets.private_rows import hide_users, render_rows
from platform_assets.reports import ALL_DAILY_REPORTS
from platform_assets.reports.customer_days import CUSTOMER_DAYS_TABLE
from platform_assets.reports.daily_report import ReportCommit
from platform_assets.tables.spec import TableSpec

if TYPE_CHECKING:
    from deltalake import DeltaTable

    from platform_assets.checks.recomputed.comparison import Differences

# Commits searched for the newest one made by a report; only the table's upkeep lies between.
_COMMITS_SEARCHED = 50

_REPORTS = {report.table.name: report for report in ALL_DAILY_REPORTS}


def build_report_consistency_checks(tables: Iterable[TableSpec]) -> list[dg.AssetChecksDefinition]:
    """One check `consistency` for each report among `tables`; needs the resource `lakehouse`."""
    return [_build_check(spec) for spec in tables]


def find_newest_report_commit(table: "DeltaTable") -> ReportCommit | None:
    """What the newest commit made by a report says; None when no report has written the table."""
    for commit in table.history(_COMMITS_SEARCHED):
        parsed = ReportCommit.parse(commit.get("userMetadata"))
        if parsed is not None:
            return parsed
    return None


def find_inconsistencies(
    report: "DeltaTable", sources: Mapping[str, "DeltaTable"], spec: TableSpec, days: list[date] | None
) -> "Differences":
    """Rows of the days (None: all) that differ between the report and its recomputation.

    `sources` (by name) must stand at the versions that the days were computed from. Computes in the process that calls,
    in bounded memory (see `find_differences`). Raises `FileNotFoundError` when a file of these versions is gone.
    """
    from platform_assets.checks.recomputed.comparison import find_differences
    from platform_assets.checks.recomputed.snapshots import Snapshot

    snapshots = {source.name: Snapshot(sources[source.name], source) for source in _inputs_of(spec)}
    return find_differences(spec, Snapshot(report, spec), snapshots, days)


def _inputs_of(spec: TableSpec) -> list[TableSpec]:
    if spec.name in _REPORTS:
        return [source.table for source in _REPORTS[spec.name].inputs]
    return [CUSTOMER_DAYS_TABLE]


def _build_check(spec: TableSpec) -> dg.AssetChecksDefinition:
    inputs = " and ".join(source.name for source in _inputs_of(spec))

    @dg.asset_check(
        asset=list(spec.asset_path),
        name="consistency",
        description=f"{spec.name} agrees, row by row, with {inputs}, by another engine (Polars).",
        required_resource_keys={"lakehouse"},
    )
    def consistency(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        from deltalake.exceptions import TableNotFoundError

        lakehouse = context.resources.lakehouse
        try:
            report = lakehouse.delta_table(spec.name)
            newest = {source.name: lakehouse.delta_table(source.name) for source in _inputs_of(spec)}
        except TableNotFoundError as error:
            # Nothing is wrong with a report that nobody has asked for yet.
            return _warn(f"A table is missing ({error}). Materialize {spec.name} first.")
        commit = find_newest_report_commit(report)
        if commit is None:
            return dg.AssetCheckResult(
                passed=False, description=f"{spec.name} was never written by its asset. Materialize it."
            )
        sources = {}
        for name, version in commit.inputs.items():
            source = _open_version(lakehouse, name, version)
            if source is None:
                return _warn_of_lost_version(
                    spec, commit, f"The log of {name} does not hold version {version} any more"
                )
            sources[name] = source
        older = None
        try:
            found = find_inconsistencies(report, sources, spec, None if commit.days is None else commit.days.days())
            if commit.days is not None:
                older = _choose_older_day(lakehouse, spec, newest, commit)
            if older is not None:
                found.extend(find_inconsistencies(report, newest, spec, [older]))
        except FileNotFoundError as error:
            return _warn_of_lost_version(spec, commit, f"A file of these versions is gone ({error})")
        return _judge(spec, commit, older, found)

    return consistency


def _open_version(lakehouse: Any, name: str, version: int) -> "DeltaTable | None":
    """The table at this version; None when its log has been cleaned beyond it."""
    from deltalake.exceptions import DeltaError

    table: DeltaTable = lakehouse.delta_table(name)
    try:
        table.load_as_version(version)
    except DeltaError:
        if version in {commit["version"] for commit in lakehouse.delta_table(name).history()}:
            raise
        return None
    return table


def _choose_older_day(
    lakehouse: Any, spec: TableSpec, newest: Mapping[str, "DeltaTable"], commit: ReportCommit
) -> date | None:
    from platform_assets.checks.older_day import choose_older_day

    assert commit.days is not None
    return choose_older_day(lakehouse, _REPORTS[spec.name], newest, commit.days, datetime.now(UTC))


def _judge(spec: TableSpec, commit: ReportCommit, older: date | None, found: "Differences") -> dg.AssetCheckResult:
    days = "all" if commit.days is None else str(commit.days)
    compared = days if older is None else f"{days}, and in its turn {older}"
    rows = hide_users(found.first, f"consistency of {spec.name}", spec.roles.user_id or "user_id")
    return dg.AssetCheckResult(
        passed=not found.count,
        description=f"{found.count} differing rows; the first: {rows[0]} (headrace check --rows shows whose)"
        if found.count
        else f"All rows agree. Compared: {compared}.",
        metadata={
            "headrace/days": days,
            "headrace/older_day": str(older) if older else "none",
            "headrace/inputs": str(dict(commit.inputs)),
            "differing_rows": found.count,
            "first_differences": dg.MetadataValue.md(render_rows(rows)),
        },
    )


def _warn(description: str) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=False, severity=dg.AssetCheckSeverity.WARN, description=description)


def _warn_of_lost_version(spec: TableSpec, commit: ReportCommit, reason: str) -> dg.AssetCheckResult:
    days = "all days" if commit.days is None else commit.days
    return _warn(
        f"Nothing was compared: {reason}, and {spec.name} ({days}) was computed from it. Materialize it again to have "
        "it compared."
    )
