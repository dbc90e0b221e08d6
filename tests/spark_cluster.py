"""A real standalone Spark for a test: a master and workers, each worker as a user of its own, gone with the block.

They stand for other machines: a worker has Spark, Java and a Python of its own, and a folder that only its user can
enter. It has none of this project's code or packages, and cannot read what the driver keeps to itself.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pyspark
import pytest

from resources.java import java_home
from resources.spark.encryption import network_conf

USERS = ("nobody", "daemon")
_SECONDS = 60.0
_PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"


@dataclass
class SparkDaemon:
    """A master or a worker, with the folder in which it keeps all that is its own."""

    folder: Path
    process: subprocess.Popen[bytes]
    children: set[psutil.Process] = field(default_factory=set)

    def executors(self) -> list[psutil.Process]:
        """The JVMs in which it runs applications."""
        return [child for child in self.descendants() if "CoarseGrainedExecutorBackend" in " ".join(_command(child))]

    def pythons(self) -> list[psutil.Process]:
        """The Python processes of its executors."""
        return [child for child in self.descendants() if "pyspark.daemon" in _command(child)]

    def descendants(self) -> list[psutil.Process]:
        """All processes that it has started and that still run."""
        try:
            self.children.update(psutil.Process(self.process.pid).children(recursive=True))
        except psutil.NoSuchProcess:
            pass
        return [child for child in self.children if child.is_running()]

    def kill(self) -> None:
        """Ends it and all that it has started by kill -9, as a machine that loses its power."""
        victims = self.descendants()
        self.process.kill()
        self.process.wait()
        for victim in victims:
            if victim.is_running():
                victim.kill()
        psutil.wait_procs(victims, 30)


@dataclass
class SparkCluster:
    """A master, its workers, and the interpreter that they have."""

    master: str
    python: str
    start: Callable[[str, pwd.struct_passwd, list[str], str], SparkDaemon]
    accounts: list[pwd.struct_passwd]
    options: list[str]
    secret: str = ""
    """What all need to know to have to do with its master; empty: nobody is asked, and nothing is encrypted."""
    workers: dict[int, SparkDaemon] = field(default_factory=dict)
    _started: int = 0

    def start_worker(self, number: int) -> None:
        """Starts a worker, as on a machine that has nothing yet; returns when the master knows it."""
        worker = self.workers[number] = self.launch_worker(number, self.secret)
        await_line(worker, "(Successfully registered with master)")

    def launch_worker(self, number: int, secret: str) -> SparkDaemon:
        """Starts a worker that has this secret, and waits for nothing."""
        self._started += 1
        command = ["org.apache.spark.deploy.worker.Worker", "--host", "127.0.0.1", "--webui-port", "0", *self.options]
        return self.start(f"worker{self._started}", self.accounts[number], [*command, self.master], secret)


@contextmanager
def running_cluster(
    cores: int = 2, memory_mib: int = 2048, secret: str = "", workers: int = len(USERS)
) -> Iterator[SparkCluster]:
    """A master and workers, each of another of `USERS`, on 127.0.0.1. Skips where the machine has not what that takes.

    With a secret they encrypt what they send, and refuse who does not know it.
    """
    python = _find_python()
    accounts = [_find_account(name) for name in USERS]
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="headrace-cluster-"))
        stack.callback(shutil.rmtree, folder)
        folder.chmod(0o755)
        spark_home = _link_spark(folder / "spark")

        def start(name: str, account: pwd.struct_passwd, command: list[str], secret: str) -> SparkDaemon:
            daemon = _start(folder / name, account, spark_home, command, secret)
            stack.callback(daemon.kill)
            return daemon

        command = ["org.apache.spark.deploy.master.Master", "--host", "127.0.0.1", "--port", "0", "--webui-port", "0"]
        master = await_line(start("master", accounts[0], command, secret), r"Starting Spark master at (spark://\S+)")
        options = ["--cores", str(cores), "--memory", f"{memory_mib}M"]
        cluster = SparkCluster(master, python, start, accounts, options, secret)
        for number in range(workers):
            cluster.start_worker(number)
        yield cluster


def _start(folder: Path, account: pwd.struct_passwd, spark_home: Path, command: list[str], secret: str) -> SparkDaemon:
    folder.mkdir()
    for name in ("tmp", "conf", "work"):
        (folder / name).mkdir()
    if secret:  # as docs/cluster.md has it
        lines = [*network_conf().items(), ("spark.authenticate.secret", secret), ("spark.master.rest.enabled", "false")]
        (folder / "conf" / "spark-defaults.conf").write_text("".join(f"{key} {value}\n" for key, value in lines))
    for path in (folder, *folder.rglob("*")):
        os.chown(path, account.pw_uid, account.pw_gid)
        path.chmod(0o700)
    environment = {
        "PATH": "/usr/bin:/bin", "JAVA_HOME": str(java_home()), "SPARK_HOME": str(spark_home), "HOME": str(folder),
        "SPARK_CONF_DIR": str(folder / "conf"), "SPARK_LOCAL_DIRS": str(folder / "tmp"), "TMPDIR": str(folder / "tmp"),
        "SPARK_WORKER_DIR": str(folder / "work"),
        "SPARK_DAEMON_MEMORY": "192m", "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_DAEMON_JAVA_OPTS": f"-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Djava.io.tmpdir={folder}/tmp",
    }  # fmt: skip
    with (folder.parent / f"{folder.name}.log").open("wb") as log:
        process = subprocess.Popen(
            [str(spark_home / "bin" / "spark-class"), *command], cwd=folder, env=environment, stdout=log, stderr=log,
            user=account.pw_uid, group=account.pw_gid, extra_groups=[], start_new_session=True, umask=0o077,
        )  # fmt: skip
    return SparkDaemon(folder, process)


def read_log(daemon: SparkDaemon) -> str:
    """What it has written so far."""
    return (daemon.folder.parent / f"{daemon.folder.name}.log").read_text(errors="replace")


def await_line(daemon: SparkDaemon, pattern: str) -> str:
    """Waits until its log has the pattern's group; fails when it ends or takes too long."""
    deadline = time.monotonic() + _SECONDS
    while (found := re.search(pattern, read_log(daemon))) is None:
        assert daemon.process.poll() is None and time.monotonic() < deadline, read_log(daemon)[-2000:]
        time.sleep(0.1)
    return found[1]


def _link_spark(home: Path) -> Path:
    """Spark as a machine has it: the jars and scripts of the installed pyspark, which are no part of the archive."""
    installed = Path(pyspark.__file__).parent
    for name in ("bin", "jars", "python"):
        shutil.copytree(installed / name, home / name, copy_function=_link)
    return home


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # of another file system
        shutil.copy2(source, target)


def _find_python() -> str:
    """The path of an interpreter of this version that other users can run, and that is no environment of ours."""
    found = shutil.which(_PYTHON, path="/usr/local/bin:/usr/bin")
    if found is None:
        pytest.skip(f"no {_PYTHON} in /usr/local/bin or /usr/bin, which workers of other users could run")
    return found


def _find_account(name: str) -> pwd.struct_passwd:
    if os.geteuid() != 0:
        pytest.skip("only root can start workers as other users")
    try:
        return pwd.getpwnam(name)
    except KeyError:
        pytest.skip(f"there is no user {name} to start a worker as")


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
