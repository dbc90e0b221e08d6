"""What an upgrade of the running stack, and its roll-back, cost: the longest time without a commit, table by table.

The services of docker-compose.yml run as processes (tests/integration/container_stack.py) on a real Postgres and a real
broker, while a simulated shop sends. The old version is a checkout of an older commit with its own deploy/ files. It is
replaced in the order of docs/containers.md, and put back. What an engine adds to make a container is not in it.
Run: `make bench ARGS="upgrade --old COMMIT"` (about ten minutes).
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from deltalake import DeltaTable

from tests.compose_file import ROOT
from tests.integration.container_stack import ContainerStack

_LIMIT_SECONDS = 600.0
TABLES = ("silver.events", "gold.revenue_by_category", "gold.conversion_funnel")


class OldStack(ContainerStack):
    """A checkout without the services migrate and topics: code server and daemon, with its own files."""

    def environment(self, name: str) -> dict[str, str]:
        """The same, and the password in the environment, as the older file has it."""
        password = (self.folder / "secrets" / "postgres_password").read_text()
        return super().environment(name) | {"POSTGRES_PASSWORD": password}

    def copy_dagster_files(self) -> None:
        """The older files name the services; here they are at ports of 127.0.0.1."""
        folder = self.folder / "dagster"
        folder.mkdir(exist_ok=True)
        for name in ("dagster.yaml", "workspace.yaml"):
            text = (self.code / "deploy" / name).read_text()
            text = text.replace("hostname: postgres", "hostname: 127.0.0.1").replace("host: code", "host: 127.0.0.1")
            text = text.replace("port: 5432", f"port: {self.variables['POSTGRES_PORT']}")
            (folder / name).write_text(text.replace("port: 4000", f"port: {self.ports['4000']}"))


def main() -> None:
    """Prints the gaps of the upgrade and of the roll-back."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", default="HEAD", help="the commit that runs first (default: the present one)")
    parser.add_argument("--rate", type=float, default=200.0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="headrace-upgrade-") as place, checked_out(args.old, Path(place)) as code:
        variables = {"COMPOSE_PROFILES": "kafka"}
        new = ContainerStack(Path(place), variables)
        old = OldStack(Path(place), variables, code, new.ports, new.processes)
        new.prepare()
        with new.running_servers():
            new.copy_dagster_files()
            run(new, "migrate", "topics")
            old.copy_dagster_files()
            old.start("code")
            wait_for(lambda: old.is_healthy("code"), "the old code server")
            old.start("daemon")
            with sending(new, args.rate):
                measure(old, new)
            wait_for(lambda: count_rows(new) >= sum(end_offsets(new)), "everything is read")
            print(f"records {sum(end_offsets(new)):,}, rows in silver {count_rows(new):,}")
            print(f"headrace check: exit code {new.run('code', 'headrace', 'check').returncode}")
            print(f"streams stopped: exit code {old.stop('code')}")


def measure(old: OldStack, new: ContainerStack) -> None:
    """Upgrades, rolls back, and prints the longest time without a commit around each."""
    wait_for(lambda: all(commits(new, table) for table in TABLES), "commits of all tables")
    settle(new)
    for what, before, after in (("upgrade", old, new), ("roll-back", new, old)):
        began = time.time()
        assert before.stop("daemon") == 0
        run(new, "migrate", "topics")
        stopping = time.time()
        assert before.stop("code") == 0
        stopped = time.time()
        after.copy_dagster_files()
        after.start("code")
        wait_for(lambda after=after: after.is_healthy("code"), "the code server")  # type: ignore[misc]
        after.start("daemon")
        settle(new)
        print(f"{what}: migrate and topics {stopping - began:.0f} s, the streams' stop {stopped - stopping:.0f} s")
        for table in TABLES:
            moments = [moment for moment in commits(new, table) if moment > began - 30]
            gap = max(later - earlier for earlier, later in itertools.pairwise(moments))
            print(f"  {table}: longest time without a commit {gap:.0f} s")


def settle(stack: ContainerStack) -> None:
    """Waits for five commits of each table from now on."""
    began = time.time()
    for table in TABLES:
        wait_for(lambda table=table: sum(m > began for m in commits(stack, table)) >= 5, f"commits of {table}")  # type: ignore[misc]


def commits(stack: ContainerStack, table: str) -> list[float]:
    """When each version of the table was committed, seconds since 1970, oldest first."""
    folder = stack.home / "lakehouse" / Path(*table.split(".")) / "_delta_log"
    return sorted(file.stat().st_mtime for file in folder.glob("*.json"))


def count_rows(stack: ContainerStack) -> int:
    """Rows of the three tables that records end in."""
    found = [
        stack.home / "lakehouse" / "silver" / name for name in ("events", "quarantined_events", "deduplicated_events")
    ]
    return sum(DeltaTable(str(table)).count() for table in found if (table / "_delta_log").exists())


def end_offsets(stack: ContainerStack) -> list[int]:
    """The ends of the topic's partitions."""
    from resources.kafka import KafkaResource
    from resources.settings import Settings

    settings = Settings(home=stack.home, kafka_bootstrap_servers=stack.servers)
    with KafkaResource.from_settings(settings) as kafka:
        return list(kafka.end_offsets(settings.topic).values())


def run(stack: ContainerStack, *names: str) -> None:
    """Runs services that run once; ends the measurement with what they said where one fails."""
    stack.copy_dagster_files()
    for name in names:
        if (done := stack.run(name)).returncode != 0:
            sys.exit(done.stdout + done.stderr)


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Waits until it is true; ends the measurement, naming it, where it does not become so."""
    deadline = time.monotonic() + _LIMIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"not within {_LIMIT_SECONDS:g} s: {what}")
        time.sleep(0.5)


@contextmanager
def sending(stack: ContainerStack, rate: float) -> Iterator[None]:
    """A simulated shop sends for the length of the block."""
    command = [sys.executable, "-m", "jobs.cli", "simulate", "--quiet", "--rate", str(rate)]
    sender = subprocess.Popen(command, cwd=ROOT, env=stack.environment("code"))
    try:
        yield
    finally:
        sender.terminate()
        sender.wait()


@contextmanager
def checked_out(commit: str, place: Path) -> Iterator[Path]:
    """The files of a commit, in a folder of their own."""
    code = place / "old"
    code.mkdir()
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", str(code)], input=archive, check=True)
    place.chmod(0o755)  # Postgres's account passes through
    yield code


if __name__ == "__main__":
    main()
