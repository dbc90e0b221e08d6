"""docker-compose.yml's services as processes, commands in them, and what becomes of the streams when one dies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from jobs.supervision.group_lock import read_lock
from jobs.supervision.model import ExitKind
from resources.kafka import KafkaResource
from resources.kafka_topics import is_compacted
from resources.settings import Settings
from tests.integration.container_stack import ContainerStack
from tests.integration.postgres_server import find_binaries
from tests.integration.streaming_definitions import GROUP
from tests.integration.supervised_platform import Platform, wait_for
from tests.short_lived_jvm import ENVIRONMENT

pytestmark = [
    pytest.mark.release,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(find_binaries() is None, reason="Debian's package postgresql is not installed"),
]


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ContainerStack]:
    variables = {
        "COMPOSE_PROFILES": "kafka,watching",
        "HEADRACE_SPARK_HEAP_MIB": "768",
        "HEADRACE_TRIGGER_SECONDS": "0.5",
    }
    stack = ContainerStack(tmp_path, variables)
    stack.prepare()
    stack.copy_dagster_files()
    (tmp_path / "secrets" / "headrace_spark_conf").write_text(ENVIRONMENT["HEADRACE_SPARK_CONF"])
    with stack.running_servers():
        for name in ("DAGSTER_HOME", "POSTGRES_HOST", "POSTGRES_PORT", "POSTGRES_PASSWORD_FILE"):
            monkeypatch.setenv(name, stack.environment("code")[name])
        yield stack


@pytest.fixture
def platform(stack: ContainerStack) -> Iterator[Platform]:
    """What the test sees of the stack, from outside."""
    for name in ("migrate", "topics"):
        for _ in range(2):  # the second time changes nothing
            done = stack.run(name)
            assert done.returncode == 0, done.stdout + done.stderr
    settings = Settings(home=stack.home, kafka_bootstrap_servers=stack.servers)
    with dg.DagsterInstance.get() as instance, KafkaResource.from_settings(settings) as kafka:
        yield Platform(settings, kafka, instance, {})


def test_the_stack_works_as_written(stack: ContainerStack, platform: Platform) -> None:
    """Commands in the container act on the stack; a kill of the streams' container, and a stop, lose nothing."""
    assert "Postgres" in type(platform.instance.run_storage).__name__
    assert platform.instance.event_log_storage.get_pool_limits(), "migrate has set the limits of pools"
    assert is_compacted(platform.kafka, "high-value-users") and not is_compacted(platform.kafka, "ecommerce-events")

    healthy = ("code", "daemon", "webserver", "metrics")
    assert not stack.is_healthy("code") and not stack.is_healthy("daemon")
    for name in healthy:
        stack.start(name)
        wait_for(lambda name=name: stack.is_healthy(name), f"{name} is healthy")  # type: ignore[misc]

    def execute(*words: str) -> str:
        done = stack.run("code", *words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    first = wait_for(platform.running_host, "the first run hosts the queries")
    execute("headrace", "simulate", "--quiet", "--hours", "1", "--count", "3000")
    wait_for(platform.is_caught_up, "the simulated events are in the tables")
    execute("headrace", "pause", "clickstream", "--because", "a test")
    wait_for(
        lambda: not read_lock(stack.home, GROUP.name).held, "the pause reaches the run through the stack's instance"
    )
    execute("headrace", "simulate", "--quiet", "--hours", "1", "--count", "500")
    execute("headrace", "drain")
    assert platform.is_caught_up()
    assert "ledger" in execute("headrace", "check")
    assert 'headrace_group_phase{group="clickstream",phase="HELD_OPERATOR"} 1.0' in execute("headrace", "metrics")
    execute("headrace", "resume", "clickstream")
    second = wait_for(lambda: platform.running_host(first.run_id), "a run after the resume")

    stack.kill("code")
    assert not stack.is_healthy("code")
    stack.start("code")
    third = wait_for(
        lambda: platform.running_host(second.run_id), "the daemon, which nobody started anew, has a run again"
    )
    stack.kill("daemon")
    # By the stack's own limit of two minutes it says so later: each thread is heard of twice a minute.
    assert stack.is_healthy("daemon")
    wait_for(lambda: not stack.is_healthy("daemon", DAGSTER_DAEMON_HEARTBEAT_TOLERANCE="35"), "the check notices")
    execute("headrace", "simulate", "--quiet", "--hours", "1", "--count", "500")
    wait_for(platform.is_caught_up, "streams go on without the daemon")
    for name in ("webserver", "metrics", "code"):
        assert stack.stop(name) == 0
        assert not stack.is_healthy(name)
    ended = next(run for run in platform.runs() if run.run_id == third.run_id)
    assert (ended.status, ended.exit_kind, ended.exit_reason) == ("success", ExitKind.STOPPED, "the container stops")
    platform.prove_complete()
