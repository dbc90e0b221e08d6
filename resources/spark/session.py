"""Spark for Dagster and for plain Python: dagster-pyspark's lazy resource, with a start and an end that are ours.

dagster-pyspark leaves the JVM's launch to `getOrCreate` and never stops it. A supervised stream needs both: the JVM
must inherit the group's lock file (so that the lock is free only when the JVM is dead), and it must be gone when a run
is over. So the gateway is launched here, dagster-pyspark adopts it, and `stop` ends session, gateway and JVM.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import PrivateAttr

from platform_assets.errors import MissingDependencyError, TerminalError
from platform_assets.object_store import is_s3
from resources.jars import s3_jars, spark_jars
from resources.java import java_home
from resources.native_memory import bound_native_memory
from resources.processes import ProcessIdentity, identify
from resources.scratch import make_scratch_folder
from resources.settings import Settings, load_settings
from resources.spark.cluster_configuration import PYTHON, executor_python, prepare_driver_folder
from resources.spark.configuration import is_secret, spark_conf
from resources.spark.executors import await_executors, naming_cluster
from resources.spark.gateway_log import hear_gateway, quiet_gateway

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# Each application has its own log; the newest ones tell what happened, older ones only take space.
_KEPT_LOGS = 20
# The size of the JVM's output that is kept; its last words are at the end.
_MAX_OUTPUT_BYTES = 64 * 1024

_WORKER_PYTHON = Path(__file__).with_name("worker_python.sh")


class SparkResource(dg.ConfigurableResource[Any]):
    """One Spark application in this process, started at the first use of `spark_session`.

    Within Dagster the tear-down stops it; outside, use `running()` or `start`/`stop`. After `stop` a new application
    can be started in the same process. Only one application can run in a process at a time.
    """

    app_name: str = "headrace"
    """Shows in logs and file names."""

    spark_config: dict[str, str] = {}
    """Further Spark configuration for this resource; wins over the settings. No secrets: Dagster shows it."""

    stop_timeout_seconds: float = 20.0
    """After so long the JVM is killed. It ends 0.3-2 s after its standard input closes, or is blocked for good."""

    _settings: Settings | None = PrivateAttr(default=None)
    _delegate: Any = PrivateAttr(default=None)
    _jvm: subprocess.Popen[bytes] | None = PrivateAttr(default=None)
    _folder: Path | None = PrivateAttr(default=None)
    _output: tuple[Path, int] | None = PrivateAttr(default=None)

    @classmethod
    def from_settings(
        cls, settings: Settings, app_name: str = "headrace", stop_timeout_seconds: float = 20.0, **spark_config: str
    ) -> SparkResource:
        """The resource that these settings describe. Nothing is started."""
        resource = cls(app_name=app_name, spark_config=spark_config, stop_timeout_seconds=stop_timeout_seconds)
        resource._settings = settings
        return resource

    @property
    def spark_session(self) -> SparkSession:
        """The session; starts the application when it does not run. Errors as `start`."""
        return self.start()

    @property
    def jvm_pid(self) -> int | None:
        """The JVM's process id; None when none runs."""
        return None if self._jvm is None or self._jvm.poll() is not None else self._jvm.pid

    @property
    def jvm(self) -> ProcessIdentity | None:
        """The JVM's identity, for a caller that may have to kill exactly it; None when none runs."""
        return None if self.jvm_pid is None else identify(self.jvm_pid)

    def read_jvm_output(self) -> str:
        """The end of what the JVM of the newest start has printed itself, running or dead; empty before the first."""
        if self._output is None:
            return ""
        with self._output[0].open("rb") as output:
            length = output.seek(0, os.SEEK_END)
            # Shorter than it was: the file was cut (`log_files`), and all of it is new.
            start = self._output[1] if self._output[1] <= length else 0
            output.seek(max(start, length - _MAX_OUTPUT_BYTES))
            return output.read().decode(errors="replace")

    def start(self, inherited_descriptors: tuple[int, ...] = ()) -> SparkSession:
        """Starts the application and returns its session; the running one when there is one.

        `inherited_descriptors` are open files (a group's lock) that the JVM keeps open until it is dead. The caller
        closes its own copy afterwards, else a dead JVM looks alive. Takes 3-6 s. The SIGINT handler that pyspark
        installs is taken back: the host of the application decides what Ctrl-C means. Raises `MissingDependencyError`
        when Java or a jar is missing, `TerminalError` when the JVM does not come up; no JVM is left running then.
        """
        if self._delegate is None:
            if self._jvm is not None:
                self.stop()
            handler = signal.getsignal(signal.SIGINT) if _on_main_thread() else None
            try:
                self._launch(inherited_descriptors)
            except BaseException:
                self.stop()
                raise
            finally:
                if handler is not None:
                    signal.signal(signal.SIGINT, handler)
        session: SparkSession = self._delegate.spark_session
        return session

    def stop(self) -> None:
        """Stops session, gateway and JVM and waits for the JVM's end; kill -9 of exactly that process after a limit.

        Stop streaming queries first: a query under way when its context stops prints pages of errors. Never raises for
        a JVM that is already dead.
        """
        from py4j.protocol import Py4JError
        from pyspark import SparkContext

        quiet_gateway()
        delegate, self._delegate = self._delegate, None
        if delegate is not None:
            with contextlib.suppress(Py4JError, OSError), warnings.catch_warnings():
                # A JVM that died under us refuses the connection, and pyspark warns of it.
                warnings.simplefilter("ignore", RuntimeWarning)
                (delegate.spark_session if self.jvm_pid is not None else delegate.spark_context).stop()
            if SparkContext._active_spark_context is not None:
                # Then the first call gave up half-way; the second one, which no longer asks the JVM, resets the
                # Python side, without which no other context could be made in this process.
                SparkContext._active_spark_context.stop()
        gateway, jvm, self._jvm = SparkContext._gateway, self._jvm, None
        if jvm is not None:
            # The JVM first: its connections end with it. Closing one that a query was stopped in waits for its reader,
            # which waits for the JVM: a host would hang for good.
            _end(jvm, self.stop_timeout_seconds)
            if gateway is not None:
                with contextlib.suppress(Py4JError, OSError):
                    gateway.shutdown()
                # pyspark keeps the gateway of a process for good; then the next start would talk to a dead JVM.
                _forget_gateway()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    @contextlib.contextmanager
    def running(self, inherited_descriptors: tuple[int, ...] = ()) -> Iterator[SparkSession]:
        """The session for the block; stopped at its end, whatever happened."""
        try:
            yield self.start(inherited_descriptors)
        finally:
            self.stop()

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Called by Dagster when the run is over."""
        if self._jvm is not None:
            self.stop()

    def _launch(self, inherited_descriptors: tuple[int, ...]) -> None:
        hear_gateway()
        settings = self._settings or load_settings()  # Dagster's copy of a resource has no private attributes
        jars = spark_jars() + (s3_jars() if is_s3(settings.lakehouse) else [])
        os.environ["JAVA_HOME"] = str(java_home())
        os.environ["SPARK_WORKER_INTERPRETER"] = sys.executable
        _choose_python(settings)
        bound_native_memory()
        os.environ.pop("SPARK_HOME", None)  # another Spark's jars next to pyspark's own end in NoSuchMethodError
        logs, self._folder = _prepare_folders(settings.home, self.app_name)

        from dagster_pyspark import LazyPySparkResource
        from pyspark import SparkConf, SparkContext
        from pyspark.errors import PySparkRuntimeError
        from pyspark.java_gateway import launch_gateway

        if SparkContext._active_spark_context is not None:
            raise TerminalError("Another Spark application runs in this process. Stop it before starting a second one.")
        conf = spark_conf(settings, jars, log_file=logs.with_suffix(".log"))
        conf |= {"spark.app.name": self.app_name, **self.spark_config}
        _place_temporary_files(conf, self._folder, settings)
        public = SparkConf(loadDefaults=False).setAll([(k, v) for k, v in conf.items() if not is_secret(k)])
        with logs.with_suffix(".out").open("ab") as output:
            self._output = logs.with_suffix(".out"), output.tell()
            # The JVM's own words (before and outside log4j) go to a file: a terminal with a progress bar stays whole.
            # A session of its own: a SIGTERM to our process group is for the host, which ends its queries first.
            popen_kwargs = {
                "stdout": output,
                "stderr": output,
                "pass_fds": inherited_descriptors,
                "start_new_session": True,
                "cwd": self._folder if settings.is_on_cluster else None,
            }
            try:
                with _variables(_choose_places(settings, self._folder)):
                    gateway: Any = launch_gateway(public, popen_kwargs)
            except PySparkRuntimeError as error:
                raise self._not_started(logs, error) from error
            except BaseException:
                # An interrupt: pyspark forgets the process that it has started, and takes away the file by which that
                # was to answer. The JVM then neither serves anybody nor ends.
                _kill_children_of(logs)
                raise
        self._jvm = gateway.proc
        _forget_gateway()
        with naming_cluster(settings.spark_master) if settings.is_on_cluster else contextlib.nullcontext():
            SparkContext(gateway=gateway, conf=SparkConf(loadDefaults=False).setAll(list(conf.items())))
            delegate = LazyPySparkResource(spark_config=conf)
            assert delegate.spark_context is not None  # adopts the context now, not at the first use
            self._delegate = delegate
            if settings.is_on_cluster:
                await_executors(delegate.spark_context, executor_python(settings))

    def _not_started(self, logs: Path, error: Exception) -> MissingDependencyError:
        output = logs.with_suffix(".out")
        lines = output.read_text(errors="replace").strip().splitlines() if output.exists() else []
        reason = lines[-1] if lines else str(error)
        return MissingDependencyError(
            f"Spark's JVM did not start ({reason}). See {output}; check HEADRACE_SPARK_CONF, HEADRACE_SPARK_HEAP_MIB "
            "and that Java works."
        )


def _choose_python(settings: Settings) -> None:
    """Says what Spark's Python processes are started by: the user's choice, or an interpreter without Spark's archives.

    On a cluster it is always the archive's, by which alone executors have our code.
    """
    if settings.is_on_cluster:
        os.environ["PYSPARK_PYTHON"] = PYTHON
    elif os.environ.get("PYSPARK_PYTHON", PYTHON) == PYTHON:
        is_script = os.access(_WORKER_PYTHON, os.X_OK)
        os.environ["PYSPARK_PYTHON"] = str(_WORKER_PYTHON) if is_script else sys.executable


def _place_temporary_files(conf: dict[str, str], folder: Path, settings: Settings) -> None:
    """Gives Spark this application's folder. Executors have places of their own, and are not told of this machine's."""
    if settings.is_on_cluster:
        archives = prepare_driver_folder(folder, settings, sys.executable)
        conf["spark.archives"] = ",".join(filter(None, (conf.get("spark.archives"), archives)))
        conf.setdefault("spark.hadoop.fs.s3a.buffer.dir", "s3a-buffer")  # in the working directory of each process
        return
    conf.setdefault("spark.local.dir", str(folder))
    # What is on its way to S3: by default below /tmp, where a kill would leave it for good.
    conf.setdefault("spark.hadoop.fs.s3a.buffer.dir", conf["spark.local.dir"])


def _choose_places(settings: Settings, folder: Path) -> dict[str, str]:
    """The variables that tell a JVM where to listen, or to keep its own temporary files; a user's address wins."""
    if settings.is_on_cluster:
        return {"SPARK_LOCAL_DIRS": str(folder)}
    # Without it a UI that somebody turns on answers everybody who reaches this machine, and asks nobody who they are.
    return {} if "SPARK_LOCAL_IP" in os.environ else {"SPARK_LOCAL_IP": "127.0.0.1"}


@contextlib.contextmanager
def _variables(values: dict[str, str]) -> Iterator[None]:
    """Has a JVM that starts in the block inherit these variables."""
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            del os.environ[name]


def _forget_gateway() -> None:
    from pyspark import SparkContext

    SparkContext._gateway = None
    SparkContext._jvm = None


def _end(jvm: subprocess.Popen[bytes], timeout_seconds: float) -> None:
    if jvm.stdin is not None:
        with contextlib.suppress(OSError):
            jvm.stdin.close()  # Spark's gateway server ends with its standard input
    try:
        jvm.wait(timeout_seconds)
    except subprocess.TimeoutExpired:
        jvm.kill()
        jvm.wait()


def _kill_children_of(logs: Path) -> None:
    """SIGKILL to child processes that write these logs."""
    import psutil

    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if any(str(logs) in word for word in child.cmdline()):
                child.kill()
                child.wait()


def _prepare_folders(home: Path, app_name: str) -> tuple[Path, Path]:
    """Log path without ending, and the folder for this application's temporary files."""
    logs = home / "logs" / "spark"
    logs.mkdir(parents=True, exist_ok=True)
    for log in sorted(logs.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)[_KEPT_LOGS:]:
        log.unlink(missing_ok=True)
    return logs / f"{app_name}-{os.getpid()}", make_scratch_folder(home / "spark" / "local")


def _on_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
