"""The definitions whose checks `test_standing_verdicts` runs, as a code location that Dagster's GraphQL loads."""

# No postponed annotations in this file: Dagster reads those of ops at definition time.
from collections.abc import Callable

import dagster as dg

TABLE = dg.AssetKey(["silver", "events"])
VERDICTS = {"passed": True}
DURING: list[Callable[[], None]] = []


@dg.asset_check(asset=TABLE, name="parity")
def parity() -> dg.AssetCheckResult:
    for look in DURING:
        look()
    return dg.AssetCheckResult(
        passed=VERDICTS["passed"],
        severity=dg.AssetCheckSeverity.WARN,
        description="as it was found",
        metadata={"differences": 3},
    )


@dg.asset_check(asset=TABLE, name="ledger")
def ledger() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


@dg.op
def stream(context: dg.OpExecutionContext) -> None:
    context.log_event(dg.AssetMaterialization(TABLE))


@dg.job
def streaming_job() -> None:
    stream()


checks_job = dg.define_asset_job("checks", dg.AssetSelection.all_asset_checks(), executor_def=dg.in_process_executor)
defs = dg.Definitions(assets=[dg.AssetSpec(TABLE)], asset_checks=[parity, ledger], jobs=[checks_job])
