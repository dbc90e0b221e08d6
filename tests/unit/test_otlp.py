"""Metrics pushed over OTLP, to a server that reads OpenTelemetry's own messages; it refuses them now and then."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from jobs.watching import otlp
from jobs.watching.metric_specs import BATCH_DURATION, GROUP_PHASE, GROUP_STARTS
from jobs.watching.samples import Histogram, Sample
from platform_assets.errors import MissingDependencyError
from platform_assets.streaming.batch_totals import DURATION_BOUNDS

COUNTS = list(range(len(DURATION_BOUNDS) + 1))
SAMPLES = [
    Sample(GROUP_PHASE, True, ("clickstream", "RUNNING")),
    Sample(GROUP_PHASE, False, ("clickstream", "STARTING")),
    Sample(GROUP_STARTS, 7, ("clickstream",)),
    Sample(BATCH_DURATION, Histogram(COUNTS, 123.5), ("clickstream", "events")),
]


class OtlpServer(ThreadingHTTPServer):
    def __init__(self) -> None:
        self.received: Queue[ExportMetricsServiceRequest] = Queue()
        self.status = 200
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: OtlpServer

    def do_POST(self) -> None:
        request = ExportMetricsServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(self.server.status)
        self.end_headers()
        self.server.received.put(request)

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


@pytest.fixture
def server() -> Iterator[OtlpServer]:
    with OtlpServer() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_what_arrives_is_what_was_read(server: OtlpServer) -> None:
    with otlp.pushing_metrics(lambda: SAMPLES, f"http://127.0.0.1:{server.server_port}/v1/metrics"):
        request = server.received.get(timeout=60)
    [resource] = request.resource_metrics
    assert ("service.name", "headrace") in {(a.key, a.value.string_value) for a in resource.resource.attributes}
    phase, starts, durations = resource.scope_metrics[0].metrics
    found = {
        tuple((a.key, a.value.string_value) for a in point.attributes): point.as_double
        for point in phase.gauge.data_points
    }
    assert phase.name == "headrace_group_phase"
    assert found == {
        (("group", "clickstream"), ("phase", "RUNNING")): 1.0,
        (("group", "clickstream"), ("phase", "STARTING")): 0.0,
    }
    assert starts.sum.is_monotonic and starts.sum.data_points[0].as_double == 7
    [point] = durations.histogram.data_points
    assert list(point.bucket_counts) == COUNTS and point.count == sum(COUNTS) and point.sum == 123.5
    assert tuple(point.explicit_bounds) == DURATION_BOUNDS and not point.HasField("min")


def test_a_collector_that_takes_nothing_is_told_of_once(
    server: OtlpServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(otlp, "_INTERVAL_SECONDS", 0.05)
    server.status = 400
    with otlp.pushing_metrics(lambda: SAMPLES, f"http://127.0.0.1:{server.server_port}/v1/metrics"):
        for _ in range(3):
            server.received.get(timeout=60)
        server.status = 200
        for _ in range(3):
            server.received.get(timeout=60)
    said = [record.message for record in caplog.records if record.name == "jobs.watching.otlp"]
    assert len(said) == 2 and "takes no metrics" in said[0] and "again" in said[1]


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.metric_exporter", None)
    with (
        pytest.raises(MissingDependencyError, match=r"headrace\[otlp\]"),
        otlp.pushing_metrics(list, "http://127.0.0.1"),
    ):
        pass
