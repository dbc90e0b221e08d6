"""The command `headrace metrics`."""

from __future__ import annotations

import click

from platform_assets.errors import SettingError
from resources.settings import load_settings
from resources.stop_signals import StopSignals


@click.command
@click.option("--serve", is_flag=True, help="Serve them at HEADRACE_METRICS_PORT, until SIGINT or SIGTERM.")
def metrics(serve: bool) -> None:
    """Print the platform's metrics, or serve them.

    `headrace up` and `headrace dev` serve them by themselves where HEADRACE_METRICS_PORT is set.
    """
    from prometheus_client import CollectorRegistry, generate_latest

    from jobs.platform.metrics import build_collector, watched_where_set
    from jobs.platform.services import prepare_environment

    settings = load_settings()
    if serve and not (settings.metrics_port or settings.otlp_endpoint):
        raise SettingError("HEADRACE_METRICS_PORT is 0: metrics are not served. Set it to a port.")
    prepare_environment(settings)
    if serve:
        with StopSignals() as stop, watched_where_set(settings):
            if settings.metrics_port:
                print(f"http://{settings.metrics_address}:{settings.metrics_port}/metrics", flush=True)
            stop.received.wait()
        return
    collector = build_collector(settings)
    collector.read()  # raises where the storage is away: a person is told so by an error, Prometheus by a metric
    registry = CollectorRegistry()
    registry.register(collector)
    print(generate_latest(registry).decode(), end="")
