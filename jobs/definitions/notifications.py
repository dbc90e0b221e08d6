"""The sensor that tells people, once each time, when something needs them and when it is well again.

It looks at what the platform shows anyway: the supervisor's phases and the asset checks' verdicts. What was said is in
the sensor's cursor, written after the webhook has taken it: a message may come twice, and is never left out. A check's
description stays here, for it may have rows of the shop's users: the message has its name, its table and its counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import dagster as dg

from jobs.definitions.stream_supervisor import read_states
from jobs.supervision.model import Phase, SupervisorState
from jobs.supervision.stream_running import STREAM_RUNNING
from platform_assets.checks.time_to_loss import TIME_TO_LOSS
from resources import webhook
from resources.settings import Settings, load_settings

INTERVAL_SECONDS = 15
_MOST_AT_ONCE = 8

WELL = "well"
_NEEDS_PEOPLE = frozenset({Phase.HELD_CRASH_LOOP, Phase.HELD_OPERATOR, Phase.NEEDS_ATTENTION, Phase.ORPHAN})
_AT_WORK = frozenset({Phase.RUNNING, Phase.DISABLED})
# Whose warnings are for people too: in a day it would be an error.
_WARNINGS_COUNT = frozenset({TIME_TO_LOSS})


@dataclass(frozen=True)
class Condition:
    """How one thing is: `state` is `WELL` or names the trouble, `text` is for people: the reason and what to do."""

    subject: str
    state: str
    text: str


def find_changes(conditions: Iterable[Condition], said: Mapping[str, str]) -> list[Condition]:
    """The conditions whose state differs from the last one sent. A subject that was never reported counts as well."""
    return [condition for condition in conditions if condition.state != said.get(condition.subject, WELL)]


def describe_groups(states: Mapping[str, SupervisorState]) -> list[Condition]:
    """The condition of each group in a settled phase. A group that starts or backs off keeps its last condition."""
    found = []
    for group, state in states.items():
        if state.phase in _NEEDS_PEOPLE:
            found.append(Condition(f"group {group}", state.phase, f"{group}: {state.phase}: {state.reason}"))
        elif state.phase in _AT_WORK:
            found.append(Condition(f"group {group}", WELL, f"{group}: {state.phase} again."))
    return found


def describe_checks(instance: dg.DagsterInstance, keys: Sequence[dg.AssetCheckKey]) -> list[Condition]:
    """The condition of each check that failed as an error, or passed.

    A warning leaves the last condition as it is, except for `time_to_loss`.
    """
    records = instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
    found = []
    for key, record in records.items():
        subject = f"check {key.name} of {'.'.join(key.asset_key.path)}"
        evaluation = record.event.asset_check_evaluation if record.event is not None else None
        if evaluation is None:
            continue  # it is being executed, or could not be
        is_alarm = evaluation.severity is dg.AssetCheckSeverity.ERROR or key.name in _WARNINGS_COUNT
        if evaluation.passed:
            found.append(Condition(subject, WELL, f"{subject} passes again."))
        elif is_alarm:
            found.append(Condition(subject, evaluation.severity.value, _describe_failure(subject, evaluation)))
    return found


def _describe_failure(subject: str, evaluation: dg.AssetCheckEvaluation) -> str:
    numbers = {
        name.rpartition("/")[2].replace("_", " "): entry.value
        for name, entry in evaluation.metadata.items()
        if isinstance(entry, (dg.IntMetadataValue, dg.FloatMetadataValue)) and not name.startswith("headrace/")
    }
    counts = ", ".join(f"{name} {value:,}" for name, value in numbers.items() if value is not None)
    said = f"{subject} failed as {evaluation.severity.value}" + (f": {counts}" if counts else "")
    return f"{said}. The reason is on the table's page in Dagster."


def _parse_cursor(cursor: str | None) -> dict[str, str]:
    """The last state sent, by subject. People can edit the cursor in the UI: one that is unreadable counts as empty."""
    try:
        said = json.loads(cursor or "{}")
    except ValueError:
        return {}
    return {str(subject): str(state) for subject, state in said.items()} if isinstance(said, dict) else {}


def build_notifications(settings: Settings | None = None) -> dg.SensorDefinition:
    """The sensor `notifications`; on by default where `HEADRACE_NOTIFY_URL` is set, and silent without it."""
    settings = settings or load_settings()
    url = settings.notify_url.get_secret_value()

    @dg.sensor(
        name="notifications",
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING if url else dg.DefaultSensorStatus.STOPPED,
        description="Tells HEADRACE_NOTIFY_URL when a group or a check needs people, and when it is well again.",
    )
    def notifications(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        if not url:
            return dg.SensorResult(skip_reason=dg.SkipReason("HEADRACE_NOTIFY_URL is not set."))
        said = _parse_cursor(context.cursor)
        assert context.repository_def is not None
        keys = [key for key in context.repository_def.asset_graph.asset_check_keys if key.name != STREAM_RUNNING]
        conditions = [*describe_groups(read_states(context.instance)), *describe_checks(context.instance, keys)]
        taken, trouble = [], ""
        for condition in find_changes(conditions, said)[:_MOST_AT_ONCE]:
            try:
                webhook.post(url, {"text": condition.text, "subject": condition.subject, "state": condition.state})
            except webhook.NotTakenError as error:
                trouble = f"The webhook of HEADRACE_NOTIFY_URL took no message ({error}); it is told again."
                context.log.warning(trouble)
                break
            said[condition.subject] = condition.state
            taken.append(condition.text)
        reason = "\n".join([*taken, trouble]).strip() or "Nothing new."
        return dg.SensorResult(skip_reason=dg.SkipReason(reason), cursor=json.dumps(said))

    return notifications
