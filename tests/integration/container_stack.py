"""The stack of docker-compose.yml as processes: its commands, environment, secrets and Dagster configuration.

No container engine runs here. In the place of what a container isolates there are others: a folder for each of its
paths, a free port of 127.0.0.1 for each port, and 127.0.0.1 for the names of services (`_inside`). A process has the
environment of its service and of the image, and nothing of the tests'. Postgres is Debian's, the broker is the embedded
distribution with the properties that the image apache/kafka makes of the service's environment.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from resources.embedded.broker_configuration import new_cluster_id
from resources.jars import broker_jars, default_cache
from resources.java import java_binary
from resources.ports import answers
from tests.compose_file import ROOT, resolve
from tests.integration.postgres_server import find_port, running_postgres

LIMIT_SECONDS = 300.0
_BROKER_HEAP = ("-Xms96m", "-Xmn48m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
_INSIDE = re.compile(r"/opt/headrace/dagster|/opt/headrace|/var/lib/headrace|/var/lib/kafka/data|/run/secrets")
_PORTS = ("3000", "4000", "9464", "9092", "9093", "29092")


@dataclass
class ContainerStack:
    """The stack in a folder. `variables` are the operator's `.env`; `code` is the checkout that is the image."""

    folder: Path
    variables: dict[str, str]
    code: Path = ROOT
    ports: dict[str, str] = field(default_factory=lambda: {port: str(find_port()) for port in _PORTS})
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        """The volume `headrace`."""
        return self.folder / "home"

    @property
    def servers(self) -> str:
        """The broker's address for clients outside of the stack."""
        return f"127.0.0.1:{self.ports['9092']}"

    def prepare(self) -> None:
        """Makes the secrets as an operator does, and the image's folders."""
        for name in ("home", "dagster", "kafka"):
            (self.folder / name).mkdir(exist_ok=True)
        create = [str(ROOT / "deploy" / "create_secrets.sh"), str(self.folder / "secrets")]
        subprocess.run(create, check=True, cwd=self.folder, env={"PATH": os.environ["PATH"]}, capture_output=True)

    def service(self, name: str) -> dict[str, Any]:
        """The service as Compose resolves it."""
        found: dict[str, Any] = resolve(self.variables)["services"][name]
        return found

    def run(self, name: str, *command: str, **extra: str) -> subprocess.CompletedProcess[str]:
        """Runs the service's command to its end; with `command`, that: `docker compose exec NAME COMMAND`."""
        words = list(command) or self._command(name)
        return subprocess.run(
            self._find(words), cwd=self.folder / "dagster", env=self.environment(name) | extra, capture_output=True,
            text=True, check=False, timeout=2 * LIMIT_SECONDS,
        )  # fmt: skip

    def start(self, name: str) -> None:
        """Starts the service's first process, in a session of its own."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                self._find(self._command(name)), cwd=self.folder / "dagster", env=self.environment(name), stdout=log,
                stderr=log, start_new_session=True,
            )  # fmt: skip

    def stop(self, name: str) -> int:
        """Does what `docker compose stop` does: SIGTERM to the first process only, and the service's time to end."""
        process, grace = self.processes.pop(name), self.service(name)["stop_grace_period"]
        family = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        try:
            return process.wait(float(grace.removesuffix("s")))
        finally:
            _kill([psutil.Process(process.pid)] if process.poll() is None else [])
            _kill(family)  # a container's processes end with its first one

    def kill(self, name: str) -> None:
        """Kills all of its processes at once, as the kernel does when the container's memory is full."""
        process = self.processes.pop(name)
        _kill([psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)])
        process.wait(LIMIT_SECONDS)

    def is_healthy(self, name: str, **extra: str) -> bool:
        """The verdict of the service's health check, run once. `extra` are other values of environment variables."""
        kind, *test = self.service(name)["healthcheck"]["test"]
        assert kind == "CMD"
        command = self._find([self._inside(word) for word in test])
        environment = self.environment(name) | extra
        return subprocess.run(command, env=environment, check=False, capture_output=True, timeout=60).returncode == 0

    def environment(self, name: str) -> dict[str, str]:
        """What the service's processes see: the image's variables and the service's."""
        image = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(self.code),
            "HEADRACE_CACHE": str(default_cache().parent),
            "HEADRACE_HOME": self._inside("/var/lib/headrace"),
            "DAGSTER_HOME": self._inside("/opt/headrace/dagster"),
            "HOME": str(self.folder),
        }
        return image | {key: self._inside(str(value)) for key, value in self.service(name)["environment"].items()}

    def copy_dagster_files(self) -> None:
        """What the image has in DAGSTER_HOME, unchanged: of the present checkout, for a newer image has newer ones."""
        for name in ("dagster.yaml", "workspace.yaml"):
            (self.folder / "dagster" / name).write_text((self.code / "deploy" / name).read_text())

    @contextmanager
    def running_servers(self) -> Iterator[None]:
        """Postgres and the broker, until the block ends; the stack's processes that are left end with it."""
        with ExitStack() as stack:
            password = (self.folder / "secrets" / "postgres_password").read_text()
            port = stack.enter_context(running_postgres(password))
            self.variables |= {
                "POSTGRES_HOST": "127.0.0.1", "POSTGRES_PORT": str(port),
                "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{self.ports['29092']}",
            }  # fmt: skip
            stack.callback(self._kill_all)
            stack.enter_context(self._running_broker())
            yield

    def _kill_all(self) -> None:
        for name in list(self.processes):
            if self.processes[name].poll() is None:
                self.kill(name)

    @contextmanager
    def _running_broker(self) -> Iterator[None]:
        environment = self.service("kafka")["environment"]
        properties = {
            key.removeprefix("KAFKA_").lower().replace("_", "."): self._inside(value)
            for key, value in environment.items()
        }
        file = self.folder / "server.properties"
        file.write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
        log4j = ROOT / "resources" / "embedded" / "broker_log4j2.properties"
        java = [str(java_binary()), *_BROKER_HEAP, f"-Dheadrace.log={self.folder / 'broker.log'}"]
        java += [f"-Dlog4j2.configurationFile={log4j}", "-cp", os.pathsep.join(map(str, broker_jars()))]
        with (self.folder / "kafka.out").open("ab") as output:
            tool = ["kafka.tools.StorageTool", "format", "-t", new_cluster_id(), "-c", str(file)]
            subprocess.run([*java, *tool], check=True, stdout=output, stderr=output)
            broker = subprocess.Popen([*java, "kafka.Kafka", str(file)], stdout=output, stderr=output)
        try:
            while not answers(int(self.ports["29092"])):
                assert broker.poll() is None, (self.folder / "kafka.out").read_text()[-3000:]
                time.sleep(0.1)
            yield
        finally:
            broker.terminate()
            broker.wait(LIMIT_SECONDS)

    def _command(self, name: str) -> list[str]:
        return [self._inside(word) for word in self.service(name)["command"]]

    def _inside(self, text: str) -> str:
        """The text of a container's inside as it is here."""
        places: Mapping[str, Path] = {
            "/opt/headrace/dagster": self.folder / "dagster", "/opt/headrace": self.code / "deploy",
            "/var/lib/headrace": self.home, "/var/lib/kafka/data": self.folder / "kafka" / "data",
            "/run/secrets": self.folder / "secrets",
        }  # fmt: skip
        if text in ("code", "kafka"):
            return "127.0.0.1"
        text = _INSIDE.sub(lambda found: str(places[found[0]]), text)
        text = re.sub(r"\b0\.0\.0\.0\b|(?<=[/@])kafka(?=:)", "127.0.0.1", text)
        return re.sub(r"(?<=[:=])\d+\b|^\d+$", lambda found: self.ports.get(found[0], found[0]), text)

    @staticmethod
    def _find(command: list[str]) -> list[str]:
        """The program of the image's environment, which here is the tests'."""
        program = Path(sys.executable).parent / command[0]
        return [str(program) if program.exists() else command[0], *command[1:]]


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        if process.is_running():
            process.kill()
    psutil.wait_procs(processes, timeout=LIMIT_SECONDS)
