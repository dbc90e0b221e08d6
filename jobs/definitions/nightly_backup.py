"""The Dagster job that makes a backup, rehearses its restore and removes older ones, and its nightly schedule."""

# No postponed annotations in this file: Dagster reads those of ops at definition time.
import dagster as dg

from jobs.supervision.run_records import UNFINISHED
from platform_assets.errors import HeadraceError
from resources.settings import Settings, load_settings


def build_backup_job() -> dg.JobDefinition:
    """Builds `back_up_lakehouse`. Its run fails with one line where a backup is not made, or cannot be restored."""

    @dg.op(
        description="Copies all tables and checkpoints to HEADRACE_BACKUP_PLACE; the streams rest for a moment.",
        config_schema={"reason": dg.Field(str, default_value="", description="Why: it is kept")},
    )
    def back_up(context: dg.OpExecutionContext) -> None:
        from jobs.operations.audit import audited, describe_act, leave_out_secrets
        from jobs.operations.nightly_backup import make_nightly_backup
        from platform_assets.streams import load_all_stream_groups
        from resources.embedded.servers import running_servers
        from resources.lakehouse import LakehouseResource

        settings = load_settings()
        act = describe_act(
            "backup", context.op_config["reason"], {"place": leave_out_secrets(settings.backup_place)},
            run=context.run, needs_reason=False, has_private_errors="://" in settings.backup_place,
        )  # fmt: skip
        try:
            with audited(LakehouseResource.from_settings(settings), act) as outcome, running_servers(settings):
                night = make_nightly_backup(load_all_stream_groups(), settings, context.instance, context.log.info)
                outcome.detail = night.name
        except HeadraceError as error:
            raise dg.Failure(str(error), allow_retries=False) from None
        context.add_output_metadata(
            {
                "backup": night.name,
                "tables": len(night.live.manifest.tables),
                "bytes": night.live.manifest.size_bytes,
                "streams_rested_seconds": round(night.live.rest_seconds, 3),
                "rehearsal_seconds": round(night.rehearsal.seconds, 3),
                "removed": list(night.removed),
                "dagster": night.dagster,
            }
        )

    @dg.job(
        name="back_up_lakehouse",
        description="Makes a backup while streams run, restores it for a trial, and then removes the oldest ones.",
        executor_def=dg.in_process_executor,
    )
    def back_up_lakehouse() -> None:
        back_up()

    return back_up_lakehouse


def build_backup_schedule(job: dg.JobDefinition, settings: Settings) -> dg.ScheduleDefinition:
    """Builds `nightly_backup`, at HEADRACE_BACKUP_CRON; on by default where HEADRACE_BACKUP_PLACE is set."""

    @dg.schedule(
        name="nightly_backup",
        job=job,
        cron_schedule=settings.backup_cron,
        execution_timezone="UTC",
        default_status=(
            dg.DefaultScheduleStatus.RUNNING if settings.backup_place else dg.DefaultScheduleStatus.STOPPED
        ),
        description="Makes a backup and rehearses its restore, where HEADRACE_BACKUP_PLACE is set.",
    )
    def nightly_backup(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        if not settings.backup_place:
            return dg.SkipReason("HEADRACE_BACKUP_PLACE is not set.")
        if context.instance.get_runs_count(dg.RunsFilter(job_name=job.name, statuses=UNFINISHED)):
            return dg.SkipReason("The last backup has not ended yet.")
        return dg.RunRequest(run_key=f"backup:{context.scheduled_execution_time.isoformat()}")

    return nightly_backup
