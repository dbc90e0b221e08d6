"""Gives Prometheus's client the platform's metrics, read anew at each scrape."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path

import dagster as dg
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from jobs.supervision.dagster_home import open_instance
from jobs.supervision.storage_errors import name_cause
from jobs.supervision.stream_running import name_main_assets
from jobs.watching.metric_specs import METRICS, STORAGE_UP, MetricSpec
from jobs.watching.platform_reading import PlatformReader, PlatformReading
from jobs.watching.samples import Histogram, Sample, list_disks, list_samples
from platform_assets.errors import HeadraceError, InstanceUnavailableError, NotReadyError
from platform_assets.streaming.batch_totals import DURATION_BOUNDS
from platform_assets.streaming.stream_spec import StreamGroup
from resources.lakehouse import LakehouseResource
from resources.settings import Settings

_log = logging.getLogger(__name__)

# Prometheus gives a scrape ten seconds by default: an answer that says what is missing must come before.
_READ_SECONDS = 5.0


class PlatformCollector(Collector):
    """The collector. `collect` may be called from any thread: scrapes at the same time share one reading."""

    def __init__(
        self, settings: Settings, groups: Sequence[StreamGroup], check_keys: Sequence[dg.AssetCheckKey]
    ) -> None:
        self._settings = settings
        self._queries = {group.name: tuple(name_main_assets(group)) for group in groups}
        self._reader = PlatformReader(tuple(self._queries), check_keys)
        self._lock = threading.Lock()
        self._reading: Future[PlatformReading] | None = None
        self._instance: dg.DagsterInstance | None = None
        self._open = ExitStack()
        self._trouble = ""

    def describe(self) -> Iterable[Metric]:
        """No metric: a registry would collect otherwise to know the names, which reads the storage."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The metrics of this moment, in the order of `METRICS`. Never raises for a storage that is away."""
        yield from build_families(self.collect_samples())

    def collect_samples(self) -> list[Sample]:
        """What `collect` gives, as the platform's own values."""
        samples = list(list_disks(self._list_folders(), self._settings.min_free_mib * 1024 * 1024))
        try:
            reading = self.read()
        except HeadraceError as error:
            samples.append(Sample(STORAGE_UP, 0))
            self._tell(str(error))
        else:
            samples += [Sample(STORAGE_UP, 1), *list_samples(reading, self._queries, time.time())]
            self._tell("")
        return samples

    def read(self) -> PlatformReading:
        """What Dagster's instance says now.

        Raises `NotReadyError` where no instance was ever made, `InstanceUnavailableError` where its storage does not
        answer within five seconds; a later call tries again.
        """
        with self._lock:
            if self._reading is None or self._reading.done():
                self._reading = Future()
                # In a daemon's thread: a database that hangs keeps neither a scrape nor the end of the process waiting.
                threading.Thread(target=self._read, args=(self._reading,), daemon=True).start()
            reading = self._reading
        try:
            return reading.result(_READ_SECONDS)
        except TimeoutError:
            raise InstanceUnavailableError(
                f"The storage of Dagster's instance has not answered for {_READ_SECONDS:.0f} s: metrics are missing. "
                "Look at its database; the next scrape tries again."
            ) from None

    def _read(self, reading: Future[PlatformReading]) -> None:
        try:
            if self._instance is None:
                self._instance = self._open.enter_context(open_instance(self._settings))
            if self._instance is None:
                raise NotReadyError(
                    f"There is no Dagster instance in {self._settings.home} yet. Start the platform first (make up)."
                )
            reading.set_result(self._reader.read(self._instance, time.monotonic()))
        except Exception as error:  # noqa: BLE001 the driver's own, of any storage
            opened, self._open, self._instance = self._open, ExitStack(), None
            try:
                opened.close()
            finally:  # a reading without an end would keep all later scrapes waiting
                reading.set_exception(_as_unavailable(error))

    def _list_folders(self) -> Mapping[str, Path]:
        lakehouse = LakehouseResource.from_settings(self._settings).local_root
        return {"home": self._settings.home, **({} if lakehouse is None else {"lakehouse": lakehouse})}

    def _tell(self, trouble: str) -> None:
        """Writes a line when the storage goes away, and one when it is back; not one with each scrape."""
        if trouble and not self._trouble:
            _log.warning("%s", trouble)
        if self._trouble and not trouble:
            _log.warning("The storage of Dagster's instance answers again: all metrics are there.")
        self._trouble = trouble


def _as_unavailable(error: Exception) -> HeadraceError:
    if isinstance(error, HeadraceError):
        return error
    return InstanceUnavailableError(
        f"The storage of Dagster's instance does not answer ({name_cause(error)}): metrics are missing. "
        "Look at its database; the next scrape tries again."
    )


def build_families(samples: Iterable[Sample]) -> Iterator[Metric]:
    """The samples as families of Prometheus's client, in the order of `METRICS`; a metric without samples has none."""
    found: dict[MetricSpec, Metric] = {}
    for sample in samples:
        family = found.setdefault(sample.metric, _build_family(sample.metric))
        if isinstance(sample.value, Histogram):
            assert isinstance(family, HistogramMetricFamily)
            family.add_metric(sample.labels, _accumulate(sample.value), sample.value.total)
        else:
            assert isinstance(family, GaugeMetricFamily | CounterMetricFamily)
            family.add_metric(sample.labels, float(sample.value))
    yield from (found[spec] for spec in METRICS if spec in found)


def _build_family(spec: MetricSpec) -> Metric:
    kinds = {"gauge": GaugeMetricFamily, "counter": CounterMetricFamily, "histogram": HistogramMetricFamily}
    return kinds[spec.kind](spec.name, spec.help, labels=spec.labels)


def _accumulate(histogram: Histogram) -> list[tuple[str, float]]:
    names = [*map(str, DURATION_BOUNDS), "+Inf"]
    return [(name, float(sum(histogram.counts[: place + 1]))) for place, name in enumerate(names)]
