"""The streaming run under a real daemon, broker and Spark: killed, held by a person, and stuck."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Mapping

import dagster as dg
import pytest
from prometheus_client import CollectorRegistry

from jobs.operations.drain import EXIT_DONE, EXIT_FAILED
from jobs.supervision.lease import read_report, write_control
from jobs.supervision.model import Heartbeat, RunView, StopCause
from jobs.watching.collector import PlatformCollector
from resources.embedded.broker import BrokerState
from resources.processes import ProcessIdentity, is_alive, kill
from tests.integration.streaming_definitions import GROUP
from tests.integration.streams_under_test import build_purchases
from tests.integration.supervised_platform import Platform, wait_for


def jvm_of(host: Heartbeat) -> ProcessIdentity:
    assert host.jvm is not None
    return host.jvm


@pytest.mark.timeout(1800)
def test_one_that_was_killed_is_replaced_and_one_that_was_terminated_holds_until_resumed(
    platform: Platform, daemon: subprocess.Popen[bytes], shoppers: threading.Event
) -> None:
    killed = wait_for(platform.running_host, "the run hosts the queries")
    wait_for(platform.coordinates, "the first rows")
    kill(jvm_of(killed))
    host = wait_for(lambda: platform.running_host(killed.run_id), "a run after the one that was killed")
    metadata = wait_for(lambda: _latest_metadata(platform), "a materialization of silver.events")
    assert {"spark/batch_id", "spark/rows_per_second", "spark/rows", "delta/version"} <= set(metadata)
    refused = platform.drain()
    assert refused.returncode == EXIT_FAILED
    assert len(refused.stderr.splitlines()) == 1 and "is owned by run" in refused.stderr
    shoppers.set()
    wait_for(platform.is_caught_up, "everything is read")
    platform.prove_complete()

    _terminate(platform, host)
    write_control(platform.instance, GROUP.name, "resume", by="a test")
    wait_for(lambda: platform.running_host(host.run_id), "a run after resume")
    wait_for(lambda: _lag(platform) == 0, "the heartbeat says that nothing is unread")
    _prove_metrics(platform, host)


def _prove_metrics(platform: Platform, host: Heartbeat) -> None:
    """A scrape says of the run that goes on what it is, after one that was killed and one that was terminated."""
    registry = CollectorRegistry()
    registry.register(PlatformCollector(platform.settings, [GROUP], []))
    of_group, of_query = {"group": "clickstream"}, {"group": "clickstream", "query": "events"}

    def read(name: str, **labels: str) -> float:
        value = registry.get_sample_value(f"headrace_{name}", labels)
        return -1.0 if value is None else value

    wait_for(lambda: read("query_lag_seconds", **of_query) == 0, "a look at Kafka has found nothing unread")
    assert read("query_lag_records", **of_query) == 0
    assert read("group_starts_total", **of_group) > host.epoch > 1
    producer, before = platform.kafka.producer(), read("query_rows_total", **of_query)
    values = [*build_purchases(0), b"no JSON"]
    for value in values:
        producer.produce(platform.settings.topic, value)
    assert producer.flush(30) == 0
    wait_for(lambda: read("query_rows_total", **of_query) == before + len(values), "the rows are counted")
    assert read("query_bytes_total", **of_query) >= sum(map(len, values))
    assert read("query_records_total", verdict="quarantined", **of_query) == 1
    verdicts = ("accepted", "quarantined", "deduplicated", "erased")
    assert sum(read("query_records_total", verdict=each, **of_query) for each in verdicts) == before + len(values)
    working = read("batch_part_seconds_total", part="addBatch", **of_query)
    assert read("batch_duration_seconds_sum", **of_query) > working > 0
    wait_for(lambda: read("process_cpu_seconds_total", process="jvm", **of_group) > 1, "the JVM was measured")
    assert read("process_resident_memory_bytes", process="jvm", **of_group) > 100 * 1024 * 1024
    wait_for(lambda: read("group_phase", phase="RUNNING", **of_group) == 1, "the supervisor sees it run")


def _terminate(platform: Platform, host: Heartbeat) -> None:
    """Terminates the run as in the UI: run, process and JVM end, and the supervisor starts no other."""
    platform.instance.run_coordinator.cancel_run(host.run_id)
    wait_for(lambda: platform.runs()[0].status == "canceled", "the run is canceled")
    wait_for(lambda: not is_alive(host.process), "its process is gone")
    wait_for(lambda: not is_alive(jvm_of(host)), "its JVM is gone")
    held = wait_for(lambda: _ticks_with(platform, "HELD_OPERATOR"), "the supervisor says that a person holds the group")
    assert "headrace resume clickstream" in held


@pytest.mark.release
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("platform", [{"HEADRACE_STUCK_TIMEOUT_SECONDS": "20"}], indirect=True)
def test_a_group_that_does_not_move_is_restarted_and_a_drain_goes_where_no_run_is(
    platform: Platform, broker: BrokerState, daemon: subprocess.Popen[bytes], shoppers: threading.Event
) -> None:
    """The broker is frozen: the host beats, its query waits inside one trigger, and no batch ends."""
    host = wait_for(platform.running_host, "the run hosts the queries")
    wait_for(platform.coordinates, "the first rows")
    os.kill(broker.jvm.pid, signal.SIGSTOP)
    try:
        stuck = wait_for(lambda: _stopped_by_us(platform, host.run_id), "the supervisor stops the stuck run")
    finally:
        os.kill(broker.jvm.pid, signal.SIGCONT)
    assert stuck.stop_cause is StopCause.STUCK
    assert "events is busy with one batch for" in wait_for(
        lambda: _ticks_with(platform, "is busy with one batch"), "the tick says which query is stuck"
    )
    wait_for(lambda: platform.running_host(host.run_id), "a run after the stuck one")
    shoppers.set()
    wait_for(platform.is_caught_up, "everything is read")
    platform.prove_complete()

    _terminate(platform, wait_for(lambda: platform.running_host(host.run_id), "the run that has read everything"))
    runs = len(platform.runs())
    producer = platform.kafka.producer()
    for event in build_purchases(0):
        producer.produce(platform.settings.topic, event)
    assert producer.flush(30) == 0
    done = platform.drain()
    assert done.returncode == EXIT_DONE, done.stderr
    platform.prove_complete()
    assert len(platform.runs()) == runs


def _stopped_by_us(platform: Platform, run_id: str) -> RunView | None:
    run = next(run for run in platform.runs() if run.run_id == run_id)
    return run if run.stop_cause is not None else None


def _lag(platform: Platform) -> int | None:
    report = read_report(platform.instance, GROUP.name)
    return None if report is None else report.queries["events"]["lag_records"]


def _latest_metadata(platform: Platform) -> Mapping[str, dg.MetadataValue] | None:
    records = platform.instance.fetch_materializations(dg.AssetKey(["silver", "events"]), limit=1).records
    event = records[0].asset_materialization if records else None
    return None if event is None else event.metadata


def _ticks_with(platform: Platform, phase: str) -> str | None:
    for state in platform.instance.all_instigator_state():
        ticks = platform.instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=5)
        for tick in ticks:
            if phase in (tick.tick_data.skip_reason or ""):
                return tick.tick_data.skip_reason
    return None
