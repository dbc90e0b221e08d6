"""The check `stream_running`: whether the supervisor sees a stream's group run."""

# No postponed annotations in this file: Dagster reads those of checks at definition time.
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import dagster as dg

from jobs.supervision.lease import read_control, read_report
from jobs.supervision.model import Phase
from platform_assets.relays import load_relays
from platform_assets.stream_assets import alert_asset_key, sink_asset_key, topic_asset_key
from platform_assets.streaming.stream_spec import StreamGroup, name_publisher, name_sink
from resources.settings import load_settings

STREAM_RUNNING = "stream_running"

_AS_WANTED = frozenset({Phase.RUNNING, Phase.DISABLED})
_HELD = frozenset({Phase.HELD_CRASH_LOOP, Phase.NEEDS_ATTENTION, Phase.ORPHAN})


@dataclass(frozen=True)
class PhaseVerdict:
    """How a phase reads as a check: a warning passes by itself, an error waits for a person."""

    passed: bool
    severity: dg.AssetCheckSeverity


def judge_phase(phase: Phase, *, is_paused: bool = False) -> PhaseVerdict:
    """RUNNING passes, and DISABLED; a hold that nobody chose is an error; all else is on its way, or wanted: a warning.

    `is_paused`: the stream alone is paused, in whatever phase its group is.
    """
    severity = dg.AssetCheckSeverity.ERROR if phase in _HELD else dg.AssetCheckSeverity.WARN
    return PhaseVerdict(phase in _AS_WANTED and not is_paused, severity)


def name_main_assets(group: StreamGroup) -> dict[str, dg.AssetKey]:
    """The asset that each query of the group stands for, by its name.

    Of a stream it is the main table, of a relay its first topic, of a sink the table in the database, of an alert an
    asset of its name, of a publisher its topic.
    """
    tables = {stream.name: dg.AssetKey(stream.main_table.asset_path) for stream in group.streams}
    tables |= {name_sink(table): sink_asset_key(table) for table in group.sinks}
    tables |= {name: alert_asset_key(name) for name in group.alerts}
    tables |= {name_publisher(stream): topic_asset_key(stream.publish_topic or "") for stream in group.published}
    return tables | {relay.name: topic_asset_key(relay.outputs[0]) for relay in load_relays(group.relays)}


def build_stream_running_checks(groups: Sequence[StreamGroup]) -> dg.AssetChecksDefinition:
    """The check on every stream's main table, and on every relay's first topic.

    The supervisor reports it when a group's phase changes its meaning.

    Executed by hand it reads the heartbeat. A group that is not running is a warning then: a check of the tables on a
    platform that is switched off is no failure.
    """
    specs = [
        dg.AssetCheckSpec(STREAM_RUNNING, asset=key, description="The supervisor sees it run.")
        for group in groups
        for key in name_main_assets(group).values()
    ]

    @dg.multi_asset_check(name=STREAM_RUNNING, specs=specs, can_subset=True)
    def stream_running(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        limit = load_settings().heartbeat_timeout_seconds
        for group in groups:
            report = read_report(context.instance, group.name)
            age = None if report is None else time.time() - report.heartbeat.at
            running = report is not None and age is not None and age <= limit and report.heartbeat.phase == "running"
            paused = read_control(context.instance, group.name).paused_streams
            for name, key in name_main_assets(group).items():
                if dg.AssetCheckKey(key, STREAM_RUNNING) not in context.selected_asset_check_keys:
                    continue
                yield dg.AssetCheckResult(
                    asset_key=key,
                    check_name=STREAM_RUNNING,
                    passed=running and name not in paused,
                    description=_describe(group.name, age, running, paused.get(name)),
                    severity=dg.AssetCheckSeverity.WARN,
                    metadata={"group": group.name, "heartbeat_age_seconds": -1.0 if age is None else round(age, 1)},
                )

    return stream_running


def _describe(group: str, age_seconds: float | None, running: bool, paused_by: str | None) -> str:
    if paused_by is not None:
        return f"The stream is paused by {paused_by}."
    if age_seconds is None:
        return f"Group {group} has never run."
    state = "runs" if running else "does not run"
    return f"Group {group} {state}; last heartbeat {age_seconds:.0f} s ago."
