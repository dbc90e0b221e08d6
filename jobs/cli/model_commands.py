"""The commands `headrace model ...`: the fraud model's versions, and which one judges payments."""

from __future__ import annotations

import click

from jobs.cli.reason_option import reason_option
from resources.account import name_account
from resources.settings import load_settings


@click.group
def model() -> None:
    """Train, promote and roll back the fraud model."""


@model.command("list")
def list_versions() -> None:
    """List every version, and which one judges payments."""
    from platform_assets.fraud.model_register import ModelRegister
    from platform_assets.fraud.promotion import Metrics
    from resources.lakehouse import LakehouseResource

    register = ModelRegister(LakehouseResource.from_settings(load_settings()))
    models, held = register.read_models(), register.read_holder()
    for row in models:
        role = "" if held is None else {held.champion: "champion", held.shadow: "shadow"}.get(row.version, "")
        quality = Metrics.of(row).model
        print(
            f"{row.version:>4}  {row.trained_at:%Y-%m-%d %H:%M}  {role:8}  average precision "
            f"{quality.average_precision:.2f}  {row.rows:,} rows  when trained: {row.verdict}"
        )
    if not models:
        print("No version has been trained yet: headrace model train.")
    elif held is None:
        print("None of them judges payments.")


@model.command
def train() -> None:
    """Train a version with what is known now.

    The first one judges payments at once if it is better than the hand rules; a later one becomes the shadow.
    """
    import dagster as dg

    from jobs.platform.model_run import train_now
    from jobs.platform.services import prepare_environment

    settings = load_settings()
    prepare_environment(settings)
    with dg.DagsterInstance.get() as instance:
        print(train_now(instance, settings))


@model.command
@click.argument("version", type=click.IntRange(min=0), default=0)
@click.option("--anyway", is_flag=True, help="Also a version that was refused.")
@reason_option()
def promote(version: int, anyway: bool, reason: str) -> None:
    """Make a VERSION the champion, which judges payments (default: the shadow)."""
    from jobs.operations.audit import audited, describe_act
    from platform_assets.fraud.champions import promote_version
    from resources.lakehouse import LakehouseResource

    settings = load_settings()
    lakehouse = LakehouseResource.from_settings(settings)
    act = describe_act("model promote", reason, {"version": version, "anyway": anyway})
    with audited(lakehouse, act) as outcome:
        change = promote_version(lakehouse, settings, version, name_account(), anyway=anyway)
        outcome.detail = f"version {change.champion} judges payments"
    print(f"Version {change.champion} judges payments.")


@model.command
@reason_option()
def roll_back(reason: str) -> None:
    """Go back to the champion before this one."""
    from jobs.operations.audit import audited, describe_act
    from platform_assets.fraud import champions
    from resources.lakehouse import LakehouseResource

    settings = load_settings()
    lakehouse = LakehouseResource.from_settings(settings)
    act = describe_act("model roll-back", reason, {}, needs_reason=False)
    with audited(lakehouse, act) as outcome:
        change = champions.roll_back(lakehouse, settings, name_account(), reason)
        outcome.detail = f"version {change.champion} judges payments"
    print(f"Version {change.champion} judges payments.")
