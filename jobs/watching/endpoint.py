"""Serves the metrics over HTTP, for a Prometheus to scrape."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.registry import Collector

from platform_assets.errors import SettingError


@contextmanager
def serving_metrics(collector: Collector, address: str, port: int) -> Iterator[int]:
    """Serves GET /metrics at this address for the length of the block, in threads of this process; yields the port.

    `port` 0: any free one. Raises `SettingError` where the port or the address cannot be had. The answer is not
    secret, but names tables and groups: other machines reach it only at an address that somebody has set.
    """
    registry = CollectorRegistry()
    registry.register(collector)
    try:
        server, thread = start_http_server(port, address, registry)
    except OSError as error:
        raise SettingError(
            f"HEADRACE_METRICS_PORT: port {port} of {address} cannot be had ({error.strerror or error}). Stop what "
            "listens there, such as another platform, or set HEADRACE_METRICS_PORT or HEADRACE_METRICS_ADDRESS."
        ) from None
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
