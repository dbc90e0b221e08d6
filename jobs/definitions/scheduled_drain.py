"""Scheduled streaming: the job `drain_streams` and the schedule that starts it instead of a run all day."""

# No postponed annotations in this file: Dagster reads those of ops at definition time.
from collections.abc import Iterator, Sequence

import dagster as dg

from jobs.operations.drain import EXIT_DONE, EXIT_INTERRUPTED, drain_streams
from jobs.operations.stream_groups import build_group_field, choose_group
from jobs.supervision.run_records import UNFINISHED
from jobs.supervision.table_events import TableEvents
from platform_assets.streaming.stream_spec import StreamGroup
from resources.settings import Settings, load_settings

_DRAIN_TAG = "headrace/drain"


def build_drain_job(groups: Sequence[StreamGroup]) -> dg.JobDefinition:
    """Builds `drain_streams` over these groups: what `make drain` does, as a run of Dagster.

    The run ends SUCCESS when everything that Kafka held at its start is read, CANCELED after Terminate, FAILURE with
    one line otherwise, also while another process owns the group. The next drain or run goes on from where it ended.
    """

    @dg.op(
        description="The group's streams catch up with what Kafka holds now, then everything stops.",
        config_schema={
            "group": build_group_field(groups),
            "close_windows": dg.Field(
                bool, default_value=False, description="Close what is over by the clock, as if the shop had been silent"
            ),
        },
    )
    def drain_group(context: dg.OpExecutionContext) -> None:
        group = choose_group(groups, context.op_config["group"])
        settings = load_settings()
        lines: list[str] = []

        def write_line(line: str) -> None:
            lines.append(line)
            context.log.info(line)

        code = drain_streams(
            group,
            settings,
            write_line,
            close_windows=context.op_config["close_windows"],
            events=TableEvents.of_run(group, context, settings.first_day),
            instance=context.instance,
        )
        if code == EXIT_INTERRUPTED:
            raise dg.DagsterExecutionInterruptedError
        if code != EXIT_DONE:
            raise dg.Failure(lines[-1], allow_retries=False)

    @dg.job(
        name="drain_streams",
        description="Bounded mode: every stream catches up with what Kafka holds now, then ends. As `make drain`.",
        executor_def=dg.in_process_executor,
    )
    def drain_streams_job() -> None:
        drain_group()

    return drain_streams_job


def build_drain_schedule(
    groups: Sequence[StreamGroup], drain_job: dg.JobDefinition, settings: Settings
) -> dg.ScheduleDefinition:
    """Builds `scheduled_drain`: a drain of each group at `HEADRACE_DRAIN_CRON`; on by default in scheduled mode only.

    Skips a group whose last drain has not ended, so that slow ones cannot pile up.
    """

    @dg.schedule(
        name="scheduled_drain",
        job=drain_job,
        cron_schedule=settings.drain_cron,
        execution_timezone="UTC",
        default_status=(
            dg.DefaultScheduleStatus.RUNNING if settings.runs_on_schedule else dg.DefaultScheduleStatus.STOPPED
        ),
        description="Starts a drain of each stream group, where HEADRACE_STREAMING_MODE is scheduled.",
    )
    def scheduled_drain(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        if not settings.runs_on_schedule:
            yield dg.SkipReason("Streams run all day: HEADRACE_STREAMING_MODE is continuous.")
            return
        for group in groups:
            tags = {_DRAIN_TAG: group.name}
            unfinished = dg.RunsFilter(job_name=drain_job.name, statuses=UNFINISHED, tags=tags)
            if context.instance.get_runs_count(unfinished):
                yield dg.SkipReason(f"The last drain of {group.name} has not ended yet.")
            else:
                yield dg.RunRequest(
                    run_key=f"{group.name}:{context.scheduled_execution_time.isoformat()}",
                    run_config={"ops": {"drain_group": {"config": {"group": group.name}}}},
                    tags=tags,
                )

    return scheduled_drain
