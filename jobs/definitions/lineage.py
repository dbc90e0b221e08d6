"""The sensor that tells an OpenLineage endpoint of the runs of streams and reports, and of what they read and write.

It looks at what Dagster and the hosts' heartbeats have on record, apart from the streams: an endpoint that is away
disturbs none of them, and a run that was killed gets its end told too.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import dagster as dg

from jobs.operations.lineage.due import DueRun, Told, list_due
from jobs.operations.lineage.endpoint import LineageEndpoint, NotTakenError
from jobs.operations.lineage.events import State, build_event
from jobs.operations.lineage.run_jobs import Places, RunJob, list_asset_jobs, list_query_jobs
from jobs.supervision.lease import read_report
from jobs.supervision.run_records import EXIT_REASON_TAG, GROUP_TAG
from platform_assets.streaming.stream_spec import StreamGroup
from resources.embedded.broker import EmbeddedBroker
from resources.ports import HOST
from resources.settings import Settings, load_settings

if TYPE_CHECKING:
    from dagster._core.definitions.assets.graph.asset_graph import AssetGraph
    from openlineage.client.event_v2 import RunEvent

INTERVAL_SECONDS = 15
# A tick has a minute: what of a backlog does not fit is told by the next one.
_TELL_SECONDS = 30.0
_STREAMING_JOB = "streaming_job"


def build_lineage_sensor(groups: Sequence[StreamGroup], settings: Settings | None = None) -> dg.SensorDefinition:
    """The sensor `lineage`; on by default where `HEADRACE_OPENLINEAGE_URL` is set, and silent without it."""
    settings = settings or load_settings()
    url = settings.openlineage_url

    @dg.sensor(
        name="lineage",
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING if url else dg.DefaultSensorStatus.STOPPED,
        description="Tells HEADRACE_OPENLINEAGE_URL which runs read and write which tables and topics.",
    )
    def lineage(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        if not url:
            return dg.SensorResult(skip_reason=dg.SkipReason("HEADRACE_OPENLINEAGE_URL is not set."))
        assert context.repository_def is not None
        told = Told.parse(context.cursor, time.time())
        was_away = told.is_away
        teller = _Teller(context.instance, groups, settings, context.repository_def.asset_graph)
        text = teller.tell(told)
        if told.is_away != was_away:
            context.log.warning(text)
        return dg.SensorResult(skip_reason=dg.SkipReason(text), cursor=told.format())

    return lineage


class _Teller:
    """One tick: what it asks, and whom it tells."""

    def __init__(
        self, instance: dg.DagsterInstance, groups: Sequence[StreamGroup], settings: Settings, graph: AssetGraph
    ) -> None:
        self._instance, self._graph = instance, graph
        self._groups = {group.name: group for group in groups}
        self._namespace = settings.openlineage_namespace
        self._endpoint = LineageEndpoint(settings.openlineage_url, settings.openlineage_api_key.get_secret_value())
        self._places = Places(_find_servers(settings), settings.lakehouse, settings.topic)

    def tell(self, told: Told) -> str:
        """Tells what is due, notes it in `told`, and gives a line for people."""
        count, now = 0, time.time()
        deadline = time.monotonic() + _TELL_SECONDS
        was_away, told.is_away = told.is_away, False
        try:
            for due in list_due(self._instance, told, _STREAMING_JOB, now):
                for event in self._build_events(due):
                    self._endpoint.send(event)
                    count += 1
                due.note(told, now)
                if time.monotonic() > deadline:
                    break
        except NotTakenError as error:
            told.is_away = True
            return (
                f"The endpoint of HEADRACE_OPENLINEAGE_URL took no event ({error}). Streams and reports go on; what it "
                "has missed is told when it answers."
            )
        finally:
            self._endpoint.close()
        told.is_away = was_away and not count  # with nothing to tell nobody has asked it
        return f"The endpoint of HEADRACE_OPENLINEAGE_URL took {count} events." if count else "Nothing new."

    def _build_events(self, due: DueRun) -> Iterator[RunEvent]:
        jobs = self._list_jobs(due.run)
        error = due.run.tags.get(EXIT_REASON_TAG, "")
        for state, at in due.events:
            for job in jobs:
                # An asset that was computed before its run failed is complete.
                own: State = "COMPLETE" if job.is_done and state in ("FAIL", "ABORT") else state
                yield build_event(job, own, at, self._namespace, error if own == "FAIL" else "")

    def _list_jobs(self, run: dg.DagsterRun) -> list[RunJob]:
        """The jobs of a run; none for one that only checks, or whose group is no more."""
        group = self._groups.get(run.tags.get(GROUP_TAG, ""))
        if run.job_name == _STREAMING_JOB:
            report = None if group is None else read_report(self._instance, group.name)
            return [] if group is None else list_query_jobs(run, group, self._places, report)
        return list_asset_jobs(run, self._instance, self._graph, self._places)


def _find_servers(settings: Settings) -> str:
    """Kafka's address; that of the embedded broker as it runs now, without starting it."""
    if not settings.uses_embedded_broker:
        return settings.kafka_bootstrap_servers
    state = EmbeddedBroker(settings.home, settings.kafka_port).state()
    return f"{HOST}:{settings.kafka_port}" if state is None else state.bootstrap_servers
