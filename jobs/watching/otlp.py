"""Pushes the metrics to an OpenTelemetry collector, over OTLP: for who has no Prometheus that could scrape."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from jobs.watching.metric_specs import METRICS, MetricSpec
from jobs.watching.samples import Histogram, Sample
from platform_assets.errors import MissingDependencyError
from platform_assets.streaming.batch_totals import DURATION_BOUNDS

if TYPE_CHECKING:
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics.export import HistogramDataPoint, Metric, MetricsData, NumberDataPoint

_log = logging.getLogger(__name__)

# As Prometheus's own scrapes in deploy/prometheus: rules and dashboards are made for it.
_INTERVAL_SECONDS = 15.0
# It tries again within this time; a collector that is away must not keep the platform from stopping.
_TIMEOUT_SECONDS = 5.0


@contextmanager
def pushing_metrics(read_samples: Callable[[], Sequence[Sample]], endpoint: str) -> Iterator[None]:
    """Pushes what `read_samples` gives each 15 seconds for the length of the block, from a thread of its own.

    `endpoint` is the whole address, such as http://127.0.0.1:4318/v1/metrics. Headers and certificates are set by
    OpenTelemetry's own variables, OTEL_EXPORTER_OTLP_HEADERS and OTEL_EXPORTER_OTLP_CERTIFICATE. What a collector does
    not take is left out, and a line in the log says so once. Raises `MissingDependencyError` without the package.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    except ImportError:
        raise MissingDependencyError(
            "HEADRACE_OTLP_ENDPOINT needs the package opentelemetry-exporter-otlp-proto-http. Install headrace[otlp]."
        ) from None

    exporter, ended = OTLPMetricExporter(endpoint=endpoint, timeout=_TIMEOUT_SECONDS), threading.Event()
    thread = threading.Thread(target=_push, args=(exporter, read_samples, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        exporter.shutdown()
        thread.join(_TIMEOUT_SECONDS)


def _push(exporter: OTLPMetricExporter, read_samples: Callable[[], Sequence[Sample]], ended: threading.Event) -> None:
    from opentelemetry.sdk.metrics.export import MetricExportResult

    was_taken = True
    while not ended.is_set():
        began = time.monotonic()
        is_taken = exporter.export(as_metrics_data(read_samples(), time.time_ns())) is MetricExportResult.SUCCESS
        if is_taken != was_taken and not ended.is_set():
            said = "takes metrics again" if is_taken else "takes no metrics. Look at its address and its log"
            _log.warning("The collector of HEADRACE_OTLP_ENDPOINT %s.", said)
        was_taken = is_taken
        ended.wait(max(0.0, began + _INTERVAL_SECONDS - time.monotonic()))


def as_metrics_data(samples: Iterable[Sample], now_nanos: int) -> MetricsData:
    """The samples as OpenTelemetry's values: counters and histograms are cumulative, from a start that is not known."""
    from opentelemetry.sdk.metrics.export import MetricsData, ResourceMetrics, ScopeMetrics
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    found: dict[MetricSpec, list[Sample]] = {}
    for sample in samples:
        found.setdefault(sample.metric, []).append(sample)
    metrics = [_build_metric(spec, found[spec], now_nanos) for spec in METRICS if spec in found]
    scope = ScopeMetrics(InstrumentationScope("headrace"), metrics, "")
    return MetricsData([ResourceMetrics(Resource.create({"service.name": "headrace"}), [scope], "")])


def _build_metric(spec: MetricSpec, samples: Sequence[Sample], now_nanos: int) -> Metric:
    from opentelemetry.sdk.metrics import export

    total = export.AggregationTemporality.CUMULATIVE
    if spec.kind == "histogram":
        data: export.DataT = export.Histogram([_build_histogram(each, now_nanos) for each in samples], total)
    else:
        points = [_build_number(each, now_nanos) for each in samples]
        data = export.Sum(points, total, is_monotonic=True) if spec.kind == "counter" else export.Gauge(points)
    # The unit is part of the name, as Prometheus has it: with a unit here it would be there twice.
    return export.Metric(spec.name, spec.help, "", data)


def _build_number(sample: Sample, now_nanos: int) -> NumberDataPoint:
    from opentelemetry.sdk.metrics.export import NumberDataPoint

    assert not isinstance(sample.value, Histogram)
    labels = dict(zip(sample.metric.labels, sample.labels, strict=True))
    return NumberDataPoint(labels, 0, now_nanos, float(sample.value))


def _build_histogram(sample: Sample, now_nanos: int) -> HistogramDataPoint:
    from opentelemetry.sdk.metrics.export import HistogramDataPoint

    assert isinstance(sample.value, Histogram)
    labels, counts = dict(zip(sample.metric.labels, sample.labels, strict=True)), list(sample.value.counts)
    unknown: Any = None  # the least and the greatest value, which the message may leave out
    return HistogramDataPoint(
        labels, 0, now_nanos, sum(counts), sample.value.total, counts, DURATION_BOUNDS, unknown, unknown
    )
