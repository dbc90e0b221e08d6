"""A real Prometheus for a test: Debian's package, in a folder of its own, on 127.0.0.1, gone when the block ends."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.postgres_server import find_port

# On a loaded machine a scrape takes seconds; what is waited for is a condition, never this time.
LIMIT_SECONDS = 300.0


def find_program(name: str) -> str:
    """The path of `prometheus` or `promtool`; the test fails where the machine was not set up with it."""
    path = shutil.which(name)
    if path is None:
        pytest.fail(f"{name} is not installed: apt-get install prometheus, or its programs on PATH (.ci/run does it).")
    return path


class Prometheus:
    """The server's HTTP API."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def ask(self, path: str, **parameters: str) -> Any:
        """The `data` of an answer."""
        with urllib.request.urlopen(f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}") as answer:
            found = json.load(answer)
        assert found["status"] == "success"
        return found["data"]

    def is_ready(self) -> bool:
        """Whether it answers queries."""
        try:
            with urllib.request.urlopen(f"{self._url}/-/ready"):
                return True
        except (urllib.error.URLError, ConnectionError):
            return False

    def list_firing(self) -> set[str]:
        """The names of the alerts that fire now."""
        return {alert["labels"]["alertname"] for alert in self.ask("alerts")["alerts"] if alert["state"] == "firing"}

    def count_scrapes(self) -> int:
        """How many scrapes of the target succeeded in the last two minutes."""
        result = self.ask("query", query="sum(sum_over_time(up[2m]))")["result"]
        return int(float(result[0]["value"][1])) if result else 0


@contextmanager
def running_prometheus(folder: Path, rules: str, target_port: int) -> Iterator[Prometheus]:
    """Scrapes the target each two seconds, and evaluates the rules (YAML) each second."""
    (folder / "rules.yaml").write_text(rules)
    (folder / "prometheus.yaml").write_text(
        "global: {scrape_interval: 2s, scrape_timeout: 2s, evaluation_interval: 1s}\nrule_files: [rules.yaml]\n"
        f"scrape_configs: [{{job_name: headrace, static_configs: [{{targets: ['127.0.0.1:{target_port}']}}]}}]\n"
    )
    port = find_port()
    command = [
        find_program("prometheus"), "--config.file=prometheus.yaml", "--storage.tsdb.path=data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        prometheus, deadline = Prometheus(port), time.monotonic() + LIMIT_SECONDS
        while not prometheus.is_ready():
            assert process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.1)
        yield prometheus
    finally:
        process.terminate()
        process.wait(LIMIT_SECONDS)
