"""The alert rules in a real Prometheus: quiet over a healthy platform, each provoked once, and quiet again."""

from __future__ import annotations

import copy
import re
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from jobs.supervision.dagster_home import ensure_dagster_home
from jobs.watching.collector import PlatformCollector
from jobs.watching.endpoint import serving_metrics
from resources.settings import Settings
from tests.integration.prometheus_server import LIMIT_SECONDS, Prometheus, find_program, running_prometheus
from tests.unit.watched_platform import GROUPS, KEYS, WatchedPlatform

RULES = Path(__file__).parents[2] / "deploy" / "prometheus"
# What is there only while the endpoint or the storage is away, when nothing else can be judged.
AWAY = {"HeadraceMetricsAway", "HeadraceStorageAway"}
CONTENT: dict[str, Any] = yaml.safe_load((RULES / "alerts.yaml").read_text())
ALERTS = {rule["alert"] for rule in CONTENT["groups"][0]["rules"]}


def shorten() -> str:
    """The rules with the same conditions without their patience: over seconds where they are over minutes.

    But for what a single scrape that failed on a loaded machine would make fire.
    """
    [group] = copy.deepcopy(CONTENT)["groups"]
    for rule in group["rules"]:
        rule |= {"for": "15s" if rule["alert"] in AWAY else "0s", "expr": re.sub(r"\[\d+m\]", "[30s]", rule["expr"])}
    return yaml.safe_dump({"groups": [group]})


@pytest.mark.release
def test_each_rule_fires_once_and_is_quiet_before_and_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(home=tmp_path, lakehouse=str(tmp_path), kafka_bootstrap_servers="")
    monkeypatch.setenv("DAGSTER_HOME", str(ensure_dagster_home(settings)))
    full = settings.model_copy(update={"min_free_mib": 1 << 40})
    with dg.DagsterInstance.get() as instance, ExitStack() as endpoint:
        platform = WatchedPlatform(instance)
        platform.run_checks(passed=True)
        port = serve(endpoint, settings, platform, 0)
        with running_prometheus(tmp_path, shorten(), port) as prometheus:
            keep_well(platform, prometheus)

            endpoint.close()  # each endpoint keeps verdicts for a minute: another one reads them anew
            platform.run_checks(passed=False)
            platform.age_verdicts()
            serve(endpoint, full, platform, port)
            platform.tick(ill=True)
            fired: set[str] = set()

            def have_all_fired() -> bool:
                fired.update(prometheus.list_firing())
                return fired >= ALERTS - AWAY

            wait_until(have_all_fired, partial(platform.beat, ill=True), prometheus)

            away = platform.break_storage()
            wait_until(lambda: "HeadraceStorageAway" in prometheus.list_firing(), None, prometheus)
            away.restore()
            endpoint.close()
            wait_until(lambda: prometheus.list_firing() == {"HeadraceMetricsAway"}, None, prometheus)

            platform.run_checks(passed=True)
            serve(endpoint, settings, platform, port)
            keep_well(platform, prometheus)


def serve(stack: ExitStack, settings: Settings, platform: WatchedPlatform, port: int) -> int:
    return stack.enter_context(serving_metrics(PlatformCollector(settings, GROUPS, KEYS), "127.0.0.1", port))


def keep_well(platform: WatchedPlatform, prometheus: Prometheus) -> None:
    """Waits until nothing fires, and then that nothing does so for five further scrapes."""

    def beat() -> None:
        platform.beat()
        platform.tick()

    wait_until(lambda: not prometheus.list_firing() and prometheus.count_scrapes() > 0, beat, prometheus)
    scrapes = prometheus.count_scrapes()

    def stays_well() -> bool:
        assert not prometheus.list_firing()
        return prometheus.count_scrapes() >= scrapes + 5

    wait_until(stays_well, beat, prometheus)


def wait_until(condition: Callable[[], bool], act: Callable[[], None] | None, prometheus: Prometheus) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"silent: {sorted(ALERTS - prometheus.list_firing())}"
        if act is not None:
            act()
        time.sleep(0.5)


@pytest.mark.parametrize(
    "command", ["check rules alerts.yaml", "check config prometheus.yaml", "test rules alerts_test.yaml"]
)
def test_the_rules_are_valid_and_pass_their_cases(command: str) -> None:
    promtool = [find_program("promtool"), *command.split()]
    done = subprocess.run(promtool, cwd=RULES, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_metrics_pass_the_linter_of_prometheus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(home=tmp_path, lakehouse=str(tmp_path), kafka_bootstrap_servers="")
    monkeypatch.setenv("DAGSTER_HOME", str(ensure_dagster_home(settings)))
    registry = CollectorRegistry()
    with dg.DagsterInstance.get() as instance:
        platform = WatchedPlatform(instance)
        platform.run_checks(passed=True)
        platform.beat()
        platform.tick()
        registry.register(PlatformCollector(settings, GROUPS, KEYS))
        text = generate_latest(registry)
    command = [find_program("promtool"), "check", "metrics"]
    done = subprocess.run(command, input=text, capture_output=True, check=False)
    assert (done.returncode, done.stderr.decode()) == (0, "")
