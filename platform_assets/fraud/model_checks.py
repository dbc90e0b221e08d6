"""The checks of the asset `fraud_model`: the newest version next to the hand rules, the champion and its own training.

A version that fails one becomes neither champion nor shadow (`platform_assets.fraud.promotion` decides by the same
functions). The checks say it again, from what was measured then: cheap, and as often as anybody asks.
"""

# No postponed annotations in this file: Dagster reads those of assets and checks at definition time.
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import dagster as dg

from platform_assets.fraud.assets import FRAUD_MODEL_KEY

if TYPE_CHECKING:
    from platform_assets.fraud.promotion import Metrics

CHECKS = {
    "better_than_hand_rules": "The newest version tells fraud better than rules that were written by hand.",
    "as_good_as_champion": "The newest version tells fraud as well as the champion did, on the same payments.",
    "no_drift": "The newest payments are like those that the newest version was trained with (PSI up to 0.25).",
}


def build_model_checks() -> list[dg.AssetChecksDefinition]:
    """The checks of the newest version. Need the resource `lakehouse`."""
    return [_build_check(name, description) for name, description in CHECKS.items()]


def _build_check(name: str, description: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=FRAUD_MODEL_KEY, name=name, description=description, required_resource_keys={"lakehouse"}
    )
    def check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        from platform_assets.fraud.model_register import ModelRegister
        from platform_assets.fraud.promotion import Metrics

        models = ModelRegister(context.resources.lakehouse).read_models()
        if not models:
            return dg.AssetCheckResult(passed=True, description="No version has been trained yet.")
        metrics = Metrics.of(models[-1])
        passed, said = _find_judge(name)(metrics)
        return dg.AssetCheckResult(
            passed=passed,
            severity=dg.AssetCheckSeverity.WARN,
            description=f"Version {models[-1].version}: {said}",
            metadata=_describe(name, metrics),
        )

    return check


def _find_judge(name: str) -> "Callable[[Metrics], tuple[bool, str]]":
    from platform_assets.fraud import promotion

    return {
        "better_than_hand_rules": promotion.beats_hand_rules,
        "as_good_as_champion": promotion.keeps_up_with_champion,
        "no_drift": promotion.has_not_drifted,
    }[name]


def _describe(name: str, metrics: "Metrics") -> dict[str, Any]:
    if name == "no_drift":
        return {f"psi/{drift.feature}": drift.psi for drift in metrics.drift}
    return {key: value for key, value in metrics.numbers().items() if not key.startswith("psi_")}
