"""How long a tick of the supervisor takes with 1, 10 and 100 groups, on a real Dagster instance (SQLite).

Each group has a live run that beats (this process stands in for its host) and a past of fifty failed and ended runs;
the tick reads runs, heartbeat, lock and control record of each group, decides, and finds nothing to do.
Run: `make bench ARGS=ticks` (about two minutes).
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import dagster as dg

from jobs.definitions.stream_supervisor import build_stream_supervisor
from jobs.definitions.streaming_job import build_streaming_job
from jobs.supervision.dagster_home import ensure_dagster_home
from jobs.supervision.fingerprint import build_fingerprint
from jobs.supervision.lease import HostReport, write_heartbeat
from jobs.supervision.model import Heartbeat
from jobs.supervision.run_records import build_run_config, build_run_tags
from platform_assets.streaming.stream_spec import StreamGroup
from platform_assets.streams import load_streams
from resources.processes import identify
from resources.settings import Settings

PAST_RUNS = 50


def main() -> None:
    """Prints the median, the 99th percentile and the longest tick for each number of groups."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, nargs="*", default=[1, 10, 100])
    parser.add_argument("--ticks", type=int, default=200)
    args = parser.parse_args()
    for count in args.groups:
        with tempfile.TemporaryDirectory(prefix="headrace-bench-") as home:
            groups = [StreamGroup(f"group_{number}", tuple(load_streams())) for number in range(count)]
            millis = sorted(measure_ticks(Settings(home=Path(home)), groups, args.ticks))
        p99 = statistics.quantiles(millis, n=100)[98]
        print(f"{count:4} groups: p50 {statistics.median(millis):7.1f} ms, p99 {p99:7.1f} ms, max {millis[-1]:7.1f} ms")


def measure_ticks(settings: Settings, groups: Sequence[StreamGroup], ticks: int) -> list[float]:
    """Milliseconds of each tick of a supervisor of these groups, each of which has a live run and a past."""
    os.environ["DAGSTER_HOME"] = str(ensure_dagster_home(settings))
    job = build_streaming_job(groups)
    sensor = build_stream_supervisor(groups, job, settings)
    cursor = None
    taken = []
    with dg.DagsterInstance.get() as instance:
        runs = {group.name: _make_runs(instance, group, job, settings) for group in groups}
        for number in range(ticks + 1):
            for name, run_id in runs.items():
                _beat(instance, name, run_id)
            began = time.perf_counter()
            result = sensor(dg.build_sensor_context(instance, cursor=cursor))
            if number:  # the first announces every group
                taken.append((time.perf_counter() - began) * 1000)
            assert isinstance(result, dg.SensorResult) and not result.run_requests, "a group was not seen running"
            cursor = result.cursor
    return taken


def _make_runs(instance: dg.DagsterInstance, group: StreamGroup, job: dg.JobDefinition, settings: Settings) -> str:
    """A past, and a run that lives; returns its id."""
    tags, config = build_run_tags(group.name, build_fingerprint(group, settings)), build_run_config(group.name)
    for number in range(PAST_RUNS):
        status = dg.DagsterRunStatus.FAILURE if number % 2 else dg.DagsterRunStatus.SUCCESS
        instance.create_run_for_job(job, run_config=config, tags=tags, status=status)
    run = instance.create_run_for_job(job, run_config=config, tags=tags)
    for kind in (dg.DagsterEventType.RUN_STARTING, dg.DagsterEventType.RUN_START):
        instance.report_dagster_event(dg.DagsterEvent(kind.value, job.name), run_id=run.run_id)
    return run.run_id


def _beat(instance: dg.DagsterInstance, group: str, run_id: str) -> None:
    me = identify(os.getpid())
    assert me is not None
    write_heartbeat(instance, group, HostReport(Heartbeat(run_id, time.time(), me, "running")))


if __name__ == "__main__":
    main()
