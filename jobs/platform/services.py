"""Starts and stops what the platform runs besides the streams: Dagster's daemon and, on demand, the web server."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dagster as dg
import psutil

import platform_assets
from jobs.platform.code_server import CodeServer
from jobs.supervision.dagster_home import ensure_dagster_home, find_dagster_home, set_pool_limits
from jobs.supervision.group_lock import daemon_lock, holding_streams_back, read_lock
from jobs.supervision.lease import request_shutdown
from jobs.supervision.run_records import GROUP_TAG
from platform_assets.alerting.catalogue import load_groups
from platform_assets.errors import MissingTopicError, ServiceEndedError, SettingError, StorageError
from platform_assets.streaming.stream_spec import StreamGroup, name_topics
from platform_assets.streams import load_streams
from resources.embedded.servers import running_servers
from resources.kafka import KafkaResource
from resources.kafka_topics import ensure_topic
from resources.lakehouse import LakehouseResource
from resources.log_files import bound_logs
from resources.native_memory import bound_native_memory
from resources.settings import Settings

# The same file as a person's `dagster dev`: the same location name, hence the same sensors and schedules.
WORKSPACE = str(Path(platform_assets.__file__).parent.parent / "workspace.yaml")
# Dagster's daemon and web server end within seconds of a SIGTERM; one that does not is blocked for good.
SERVICE_STOP_SECONDS = 20.0
# How long the whole stop may take beyond the streams' own grace: Spark's end, the JVM's, the lock's release.
STOP_MARGIN_SECONDS = 25.0
POLL_SECONDS = 0.2
# A look costs a tenth of a millisecond; a program in a loop of errors writes some megabytes meanwhile.
_LOG_LOOK_SECONDS = 10.0


class Services:
    """The running services: a code server from the first moment, the others by `start`. Made by `running_platform`."""

    def __init__(self, settings: Settings, environment: dict[str, str]) -> None:
        self._settings = settings
        self._environment = environment
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._next_log_look = 0.0
        # The processes that were there when the stop began: one whose parent has ended since is in no tree any more.
        self._ending: list[psutil.Process] = []
        log = self.log_path("code-server")
        spawn = functools.partial(self._spawn, "dagster", log)
        self._code_server = CodeServer(Path(WORKSPACE), spawn, log)

    def start(self, name: str, *arguments: str) -> None:
        """Starts one of Dagster's programs that take a workspace."""
        arguments = (*arguments, "-w", str(self._code_server.workspace))
        self._processes[name] = self._spawn(name, self.log_path(name), arguments)

    def wait_for_definitions(self) -> None:
        """Waits until the code server has the definitions: a daemon without them takes assets for removed.

        Raises what `CodeServer.check` says.
        """
        self._code_server.wait()

    def _spawn(self, program: str, log: Path, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
        """Starts a process in a session of its own: a Ctrl-C in the terminal must reach only the platform's program."""
        with log.open("ab") as output:
            return subprocess.Popen(
                [str(Path(sys.executable).parent / program), *arguments],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=self._environment, start_new_session=True,
            )  # fmt: skip

    def log_path(self, name: str) -> Path:
        """The file that a service's output goes to."""
        return self._settings.home / "logs" / f"{name}.log"

    def check(self) -> None:
        """Raises `ServiceEndedError` when a service has ended by itself, or what `CodeServer.check` says.

        Called again and again while the platform runs; bounds the logs as well.
        """
        if (now := time.monotonic()) >= self._next_log_look:
            self._next_log_look = now + _LOG_LOOK_SECONDS
            bound_logs(self._settings.home / "logs")
        self._code_server.check()
        for name, process in self._processes.items():
            if (code := process.poll()) is not None:
                raise ServiceEndedError(f"{name} ended by itself (exit code {code}). Its log: {self.log_path(name)}.")

    def stop_streams(self) -> bool:
        """Ends the daemon and the UI, and lets the streams finish their batches; `stop` follows.

        Returns whether nothing needs the broker any more: all streams have ended, and no batch run is at work.
        """
        self._code_server.leave()
        self._ending = self._tree()
        for process in self._processes.values():
            if process.poll() is None:
                process.terminate()
        have_ended = self._await_streams()
        return self._cancel_batch_runs() == 0 and have_ended

    def stop(self) -> None:
        """Ends the rest. Afterwards no process is left."""
        tree = self._ending + self._tree()
        tree += [member for known in list(tree) for member in _family(known.pid) if known.is_running()]
        _, alive = psutil.wait_procs(tree, timeout=1.0)
        for member in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.send_signal(signal.SIGTERM)
        _, alive = psutil.wait_procs(alive, timeout=SERVICE_STOP_SECONDS)
        for member in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        psutil.wait_procs(alive, timeout=5.0)
        for process in self._processes.values():
            process.wait(5.0)
        self._code_server.close()

    def _tree(self) -> list[psutil.Process]:
        """The services, the code servers, and their runs."""
        roots = [process.pid for process in self._processes.values()] + self._code_server.pids
        return [member for pid in roots for member in _family(pid)]

    def _await_streams(self) -> bool:
        """Asks the hosts of all groups to stop until their locks are free; False when the grace was over before."""
        deadline = time.monotonic() + self._settings.stop_grace_seconds + STOP_MARGIN_SECONDS
        groups = load_groups()
        with dg.DagsterInstance.get() as instance:
            while (held := self._list_held(groups)) and time.monotonic() < deadline:
                for group in held:
                    request_shutdown(instance, group.name, "the platform stops")
                time.sleep(POLL_SECONDS)
        return not self._list_held(groups)

    def _list_held(self, groups: Sequence[StreamGroup]) -> list[StreamGroup]:
        return [group for group in groups if read_lock(self._settings.home, group.name).held]

    def _cancel_batch_runs(self) -> int:
        """Records that the runs were asked to end: otherwise Dagster calls them failed. Returns how many."""
        with dg.DagsterInstance.get() as instance:
            runs = list_batch_runs(instance)
            for run in runs:
                instance.report_run_canceling(run, "The platform stops.")
        return len(runs)


def list_batch_runs(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """The runs at work but those of streams. A request to end one of these means that a person wants it held."""
    at_work = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED])
    return [run for run in instance.get_runs(at_work) if GROUP_TAG not in run.tags]


@contextlib.contextmanager
def running_platform(settings: Settings, *, with_ui: bool = False) -> Iterator[Services]:
    """The platform for the length of the block: broker, topic, Dagster's daemon with the supervisor, maybe the UI.

    Raises one clear error before anything is started: `StorageError`, `GroupOwnedError` (another daemon on this
    home), `SettingError` (the UI's port is taken). The broker is started while Dagster's processes start, and no stream
    before its topic is there; `BrokerUnavailableError` and `MissingTopicError` are raised when those have ended again.
    """
    environment = prepare_environment(settings)
    LakehouseResource.from_settings(settings).check_writable()
    if with_ui:
        _check_port(settings.ui_port)
    # Broker and Dagster's processes together: one after the other they would be there ten seconds later.
    with daemon_lock(settings.home), contextlib.ExitStack() as broker, ThreadPoolExecutor(1) as pool:
        starting = pool.submit(_start_broker, settings, broker)
        # Creates the database of a fresh home: two services that do so at once would trip over each other.
        with dg.DagsterInstance.get() as instance:
            set_pool_limits(instance)
        services = Services(settings, environment)
        try:
            with holding_streams_back(settings.home):
                if with_ui:
                    services.start("dagster-webserver", "-h", "127.0.0.1", "-p", str(settings.ui_port))
                services.wait_for_definitions()
                services.start("dagster-daemon", "run")
                starting.result()
            yield services
        finally:
            is_broker_free = services.stop_streams()
            # While the rest ends, which would otherwise end seconds before. In the pool's one thread: after the start.
            stopping = pool.submit(broker.close) if is_broker_free else None
            services.stop()
            if stopping is not None:
                stopping.result()


def _start_broker(settings: Settings, stack: contextlib.ExitStack) -> None:
    """Starts the broker, until the stack ends, and makes the topics of the enabled groups.

    Where a broker that is not ours lacks some of them, their groups say so, and the others run. Raises
    `MissingTopicError` where it has none.
    """
    stack.enter_context(running_servers(settings))
    topics, missing = name_topics(load_streams(), settings.topic), []
    with KafkaResource.from_settings(settings) as kafka:
        for topic in topics.values():
            try:
                ensure_topic(kafka, topic, settings.topic_partitions)
            except MissingTopicError as error:
                missing.append(error)
    if missing and len(missing) == len(topics):
        raise missing[0]


def prepare_environment(settings: Settings) -> dict[str, str]:
    """Makes the home usable and returns the environment for Dagster's processes; sets `DAGSTER_HOME` here too."""
    home = find_dagster_home(settings)
    if home == settings.dagster_home:
        ensure_dagster_home(settings)
    os.environ["DAGSTER_HOME"] = str(home)
    try:
        (settings.home / "logs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"{settings.home} cannot be written ({error.strerror}). Fix its permissions or set HEADRACE_HOME."
        ) from None
    bound_native_memory()
    return {**os.environ, "DAGSTER_HOME": str(home), "HEADRACE_HOME": str(settings.home)}


def _family(pid: int) -> list[psutil.Process]:
    """The process and its descendants, as far as they live."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise SettingError(
                f"HEADRACE_UI_PORT: port {port} is taken. Stop what listens there, or choose another port."
            ) from None
