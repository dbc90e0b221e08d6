"""The metrics of this code location: which groups and checks there are is known by its definitions alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from jobs.platform.run_in_process import load_check_keys
from platform_assets.alerting.catalogue import load_groups
from platform_assets.errors import HeadraceError
from resources.settings import Settings

if TYPE_CHECKING:
    from jobs.watching.collector import PlatformCollector


def build_collector(settings: Settings) -> PlatformCollector:
    """A collector of the enabled groups and of all checks. Loads the definitions."""
    from jobs.watching.collector import PlatformCollector

    return PlatformCollector(settings, load_groups(), load_check_keys())


@contextmanager
def watched_where_set(settings: Settings) -> Iterator[None]:
    """Serves the metrics for the length of the block where HEADRACE_METRICS_PORT is set.

    Pushes them where HEADRACE_OTLP_ENDPOINT is. Raises `SettingError` for a port that is taken,
    `MissingDependencyError` where the package that pushes is missing.
    """
    with ExitStack() as stack:
        if settings.metrics_port or settings.otlp_endpoint:
            from jobs.watching.endpoint import serving_metrics
            from jobs.watching.otlp import pushing_metrics

            collector = build_collector(settings)
            # A fresh database gets its tables by this first look: two that make them at once trip over each other.
            with suppress(HeadraceError):
                collector.read()
            if settings.metrics_port:
                stack.enter_context(serving_metrics(collector, settings.metrics_address, settings.metrics_port))
            if settings.otlp_endpoint:
                stack.enter_context(pushing_metrics(collector.collect_samples, settings.otlp_endpoint))
        yield
