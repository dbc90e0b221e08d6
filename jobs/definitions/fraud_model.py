"""The jobs of the fraud model: train it each week and on demand, promote a version, go back to the one before."""

# No postponed annotations in this file: Dagster reads those of ops at definition time.
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, TypeAlias

import dagster as dg

from platform_assets.errors import HeadraceError
from platform_assets.fraud.assets import FRAUD_MODEL_KEY, FRAUD_MODEL_POOL, build_weeks
from resources.settings import load_settings

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

AssetJob: TypeAlias = "UnresolvedAssetJobDefinition"

# After the night in which the week's last day was closed, and its reports computed.
_TRAINING_CRON = "10 4 * * 1"

# A shadow is due a day after its training; each day somebody has to look whether one is.
_PROMOTION_CRON = "40 4 * * *"


def build_jobs(first_day: date) -> "tuple[list[dg.JobDefinition | AssetJob], list[dg.ScheduleDefinition]]":
    """All jobs of the model, and when they run by themselves."""
    training, promotion = build_training_job(), build_promotion_job()
    schedules = [build_training_schedule(training, first_day), build_promotion_schedule(promotion)]
    return [training, promotion, build_roll_back_job()], schedules


def build_training_job() -> "AssetJob":
    """Builds `train_fraud_model`: one version, and what the checks say of it."""
    return dg.define_asset_job(
        "train_fraud_model",
        selection=dg.AssetSelection.assets(FRAUD_MODEL_KEY) | dg.AssetSelection.checks_for_assets(FRAUD_MODEL_KEY),
        executor_def=dg.in_process_executor,
        description="Trains a version of the fraud model. The first one judges payments at once if it is better than "
        "the hand rules; a later one is the shadow first.",
    )


def build_training_schedule(job: "AssetJob", first_day: date) -> dg.ScheduleDefinition:
    """Builds `train_fraud_model_weekly`: each Monday the week before."""
    weeks = build_weeks(first_day)

    @dg.schedule(
        name="train_fraud_model_weekly",
        job=job,
        cron_schedule=_TRAINING_CRON,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Trains a version with what was known at the end of last week.",
    )
    def train_fraud_model_weekly(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        now = context.scheduled_execution_time.astimezone(UTC)
        over = [key for key in weeks.get_partition_keys(now) if weeks.time_window_for_partition_key(key).end <= now]
        if not over:
            return dg.SkipReason("The first week since HEADRACE_FIRST_DAY is not over.")
        return dg.RunRequest(run_key=f"fraud_model:{over[-1]}", partition_key=over[-1])

    return train_fraud_model_weekly


def build_promotion_job() -> dg.JobDefinition:
    """Builds `promote_fraud_model`. The run fails with one line where the command would end with one."""

    @dg.op(
        description="Makes a version the champion.",
        pool=FRAUD_MODEL_POOL,
        required_resource_keys={"lakehouse", "duckdb"},
        config_schema={
            "version": dg.Field(int, default_value=0, description="Which one; 0: the shadow"),
            "when_due": dg.Field(
                bool, default_value=False, description="Only a shadow that a day of live payments speaks for"
            ),
            "anyway": dg.Field(bool, default_value=False, description="Also a version that was refused"),
            "reason": dg.Field(str, default_value="", description="Why: asked for unless when_due, and kept"),
        },
    )
    def promote(context: dg.OpExecutionContext) -> None:
        from jobs.operations.audit import audited, describe_act
        from platform_assets.fraud.champions import promote_shadow_when_due, promote_version

        lakehouse, config, by = context.resources.lakehouse, context.op_config, f"run {context.run_id[:8]}"
        try:
            if config["when_due"]:
                now = datetime.now(UTC)
                with context.resources.duckdb.connected() as connection:
                    change, said = promote_shadow_when_due(lakehouse, connection, load_settings(), by, now)
            else:
                chosen = {name: config[name] for name in ("version", "anyway")}
                with audited(
                    lakehouse, describe_act("model promote", config["reason"], chosen, run=context.run)
                ) as outcome:
                    change = promote_version(lakehouse, load_settings(), config["version"], by, anyway=config["anyway"])
                    said, outcome.detail = change.reason, f"version {change.champion} judges payments"
        except HeadraceError as error:
            raise dg.Failure(str(error), allow_retries=False) from None
        context.log.info(said)
        context.add_output_metadata({"reason": said} | ({} if change is None else {"champion": change.champion}))

    @dg.job(
        name="promote_fraud_model",
        description="Makes the shadow, or the version that is named, the one that judges payments.",
        executor_def=dg.in_process_executor,
    )
    def promote_fraud_model() -> None:
        promote()

    return promote_fraud_model


def build_promotion_schedule(job: dg.JobDefinition) -> dg.ScheduleDefinition:
    """Builds `promote_fraud_model_daily`: the shadow becomes the champion when it is due."""
    return dg.ScheduleDefinition(
        name="promote_fraud_model_daily",
        job=job,
        cron_schedule=_PROMOTION_CRON,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        run_config={"ops": {"promote": {"config": {"when_due": True}}}},
        description="Makes the shadow the champion, if it stood the comparison for a day.",
    )


def build_roll_back_job() -> dg.JobDefinition:
    """Builds `roll_back_fraud_model`, which needs no configuration: one click when alerts have gone wrong."""

    @dg.op(
        description="Puts the champion before the current one back in charge.",
        pool=FRAUD_MODEL_POOL,
        required_resource_keys={"lakehouse"},
        config_schema={"reason": dg.Field(str, default_value="", description="Why, for those who read it later")},
    )
    def go_back(context: dg.OpExecutionContext) -> None:
        from jobs.operations.audit import audited, describe_act
        from platform_assets.fraud.champions import roll_back

        by = f"run {context.run_id[:8]}"
        try:
            lakehouse, reason = context.resources.lakehouse, context.op_config["reason"]
            act = describe_act("model roll-back", reason, {}, run=context.run, needs_reason=False)
            with audited(lakehouse, act) as outcome:
                change = roll_back(lakehouse, load_settings(), by, reason)
                outcome.detail = f"version {change.champion} judges payments"
        except HeadraceError as error:
            raise dg.Failure(str(error), allow_retries=False) from None
        context.log.info(f"Version {change.champion} judges payments: {change.reason}")
        context.add_output_metadata({"champion": change.champion, "reason": change.reason})

    @dg.job(
        name="roll_back_fraud_model",
        description="Goes back to the champion before this one.",
        executor_def=dg.in_process_executor,
    )
    def roll_back_fraud_model() -> None:
        go_back()

    return roll_back_fraud_model
