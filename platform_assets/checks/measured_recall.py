"""The check `recall`: the recommendations find more of what users turn to next than the list of best sellers does."""

# No postponed annotations in this file: Dagster reads those of assets and checks at definition time.
from collections.abc import Iterable, Mapping

import dagster as dg

from platform_assets.reports.whole.recommendation_tables import PRODUCT_RECOMMENDATIONS_TABLE
from platform_assets.reports.whole.whole_commit import find_commit
from platform_assets.reports.whole.whole_table import WholeTable

RECALL = "recall"
# Of fewer users' recall the sampling error is more than two percentage points: it would be red by chance.
_LEAST_USERS = 500
# On its first days a shop knows two or three products of each user, from which nobody can tell a taste: what is most
# popular is better there, and the check would be red in each new shop.
_LEAST_DAYS = 1.0


def build_recall_checks(wholes: Iterable[WholeTable]) -> list[dg.AssetChecksDefinition]:
    """The check on gold.product_recommendations, where it is among these; needs the resource `lakehouse`."""
    return [_build_check() for whole in wholes if whole.table == PRODUCT_RECOMMENDATIONS_TABLE]


def judge_recall(measured: Mapping[str, float]) -> dg.AssetCheckResult:
    """Warns where recall@10 is below that of the most popular products, by enough users over enough days."""
    if not measured:
        return dg.AssetCheckResult(passed=True, description="No user came back yet to measure by.")
    ours, popular, users = measured["recall_at_10"], measured["popular_recall_at_10"], measured["users"]
    covered = measured["coverage"]
    few = "users" if users < _LEAST_USERS else "days" if measured.get("days", _LEAST_DAYS) < _LEAST_DAYS else ""
    said = f"recall@10 {ours:.3f}, most popular {popular:.3f}, by {users:,.0f} users; coverage {covered:.3f}"
    return dg.AssetCheckResult(
        passed=ours >= popular or bool(few),
        # No row is wrong: whether to show something else is for a person to say.
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{said}: too few {few} to judge by." if few else f"{said}.",
        metadata={name: float(value) for name, value in measured.items()},
    )


def _build_check() -> dg.AssetChecksDefinition:
    table = PRODUCT_RECOMMENDATIONS_TABLE

    @dg.asset_check(
        asset=list(table.asset_path),
        name=RECALL,
        description="Recall@10 over the newest days, measured by the nightly run, is not below the most popular's.",
        required_resource_keys={"lakehouse"},
    )
    def recall(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        found = context.resources.lakehouse.find_table(table.name)
        commit = None if found is None else find_commit(found)
        if commit is None:
            return dg.AssetCheckResult(
                passed=False,
                severity=dg.AssetCheckSeverity.WARN,
                description=f"{table.name} was not computed yet. Materialize it.",
            )
        return judge_recall(commit.measured)

    return recall
