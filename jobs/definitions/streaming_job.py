"""The Dagster job whose run hosts a stream group's Spark application for as long as it lives."""

# No postponed annotations in this file: Dagster reads those of ops at definition time.
import logging
from collections.abc import Sequence

import dagster as dg

from jobs.operations.stream_groups import build_group_field, choose_group
from jobs.supervision.application import open_application
from jobs.supervision.fingerprint import build_fingerprint
from jobs.supervision.group_lock import hold_group_lock
from jobs.supervision.host import HostEnd, host_group
from jobs.supervision.model import ExitKind
from jobs.supervision.policy import build_policy
from jobs.supervision.run_host_port import RunHostPort
from jobs.supervision.run_records import GROUP_TAG, build_run_tags, record_exit
from jobs.supervision.table_events import TableEvents
from platform_assets.errors import BrokerUnavailableError, GroupOwnedError, HeadraceError, TerminalError
from platform_assets.streaming.stream_spec import StreamGroup
from resources.settings import Settings, load_settings


def build_streaming_job(groups: Sequence[StreamGroup]) -> dg.JobDefinition:
    """Builds `streaming_job` over these groups. The supervisor launches it; a launch by hand is supervised too.

    The run ends SUCCESS after a clean stop (stop record, Ctrl-C, SIGTERM), CANCELED after Terminate, FAILURE with one
    clear message otherwise. In every case batches in flight are finished or will be replayed from the checkpoints.
    """

    @dg.op(
        description="Hosts the group's streaming queries in one Spark application until told to stop.",
        config_schema={"group": build_group_field(groups)},
    )
    def host_streams(context: dg.OpExecutionContext) -> None:
        _host(context, choose_group(groups, context.op_config["group"]), load_settings())

    @dg.job(
        name="streaming_job",
        description="Hosts a stream group. Started and kept alive by the sensor stream_supervisor.",
        executor_def=dg.in_process_executor,
        tags={"dagster/max_runtime": "0", "dagster/max_retries": "0"},
    )
    def streaming_job() -> None:
        host_streams()

    return streaming_job


def _host(context: dg.OpExecutionContext, group: StreamGroup, settings: Settings) -> None:
    instance, run_id, log = context.instance, context.run_id, context.log
    if GROUP_TAG not in context.run.tags:  # from the Launchpad: the run queue and the supervisor must see it
        instance.add_run_tags(run_id, build_run_tags(group.name, build_fingerprint(group, settings)))
    try:
        with hold_group_lock(settings.home, group.name, "run", run_id) as lock_fd:
            events = TableEvents.of_run(group, context, settings.first_day)
            port = RunHostPort(instance, group.name, run_id, events, log, policy=build_policy(settings))
            end = host_group(
                lambda: open_application(group, settings, lock_fd, check_lease=port.check_lease),
                port,
                grace_seconds=settings.stop_grace_seconds,
            )
    except GroupOwnedError as error:
        _fail(context, ExitKind.OWNED, error, log)
    except TerminalError as error:
        _fail(context, ExitKind.TERMINAL, error, log)
    except BrokerUnavailableError as error:
        _fail(context, ExitKind.UNAVAILABLE, error, log)
    except HeadraceError as error:
        _fail(context, ExitKind.ERROR, error, log)
    except Exception as error:
        # Not one of ours: the stack trace is the only clue, so the run page shows it.
        record_exit(instance, run_id, ExitKind.ERROR, f"{type(error).__name__}: {error}")
        raise
    else:
        _finish(end, log)


def _finish(end: HostEnd, log: logging.Logger) -> None:
    log.info(f"Stopped: {end.reason}. All queries and Spark are down.")
    if end.kind is ExitKind.TERMINATED:
        # Dagster reads this error in a run that is CANCELING as CANCELED; a plain return would read SUCCESS.
        raise dg.DagsterExecutionInterruptedError


def _fail(context: dg.OpExecutionContext, kind: ExitKind, error: HeadraceError, log: logging.Logger) -> None:
    record_exit(context.instance, context.run_id, kind, str(error))
    if error.__cause__ is not None:
        log.error("The stream group failed; what Spark said:", exc_info=error.__cause__)
    raise dg.Failure(str(error), allow_retries=False) from None
