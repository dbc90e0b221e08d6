"""What the platform costs when nothing happens, and how soon it is there: memory, cores, seconds.

    make bench ARGS=idle
    make bench ARGS="idle --root ../headrace-before"     the same for another checkout, by this environment

Loading: seconds and memory of a fresh process that builds the definitions, as Dagster's processes do (median of 3).
Start: `headrace dev` in a home of its own: seconds until the web UI answers, until the first rows of supervised streams
are in `silver.events`. Idle: `headrace up` without an event; cores and memory of all its processes, by kind, from
`--settle` seconds after the streams have started. RSS counts shared pages once for each process, PSS divides them.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.own_environment import ROOT, of_checkout

# A start on a busy machine; more is a start that failed, and the log says why.
START_SECONDS = 300.0
STOP_SECONDS = 180.0
LOOK_SECONDS = 0.25

LOAD = """
import time; began = time.perf_counter()
from platform_assets.definitions import defs
defs().get_repository_def().get_all_jobs()
import resource; print(time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""
# The part of a command line that says what a process is, the more special first.
_KINDS = {
    "kafka.Kafka": "broker",
    "quarkus-run": "registry",
    "SparkSubmit": "Spark JVM",
    "pyspark": "Python workers",
    "dagster-daemon": "daemon",
    "dagster-webserver": "web server",
    "dagster._daemon": "daemon",
    "code-server": "code server",
    "api grpc": "code server",
    "spawn_main": "stream host",
    "server_guard": "guard",
    "jobs.cli": "headrace",
}


def main() -> None:
    """Measures one checkout and prints a line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout to measure")
    parser.add_argument("--settle", type=float, default=60.0, help="seconds between the streams' start and the measure")
    parser.add_argument("--seconds", type=float, default=60.0, help="for which cores are measured")
    parser.add_argument("--only", choices=("load", "start", "idle"), help="one part")
    args = parser.parse_args()
    root = args.root.absolute()
    if args.only in (None, "load"):
        _print_load(root)
    if args.only in (None, "start"):
        _print_start(root)
    if args.only in (None, "idle"):
        _print_idle(root, args.settle, args.seconds)


def _print_load(root: Path) -> None:
    found = []
    for _ in range(3):
        command, environment = [sys.executable, "-c", LOAD], build_environment(root)
        result = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=True)
        found.append([float(number) for number in result.stdout.split()])
    seconds, memory = (statistics.median(column) for column in zip(*found, strict=True))
    print(f"definitions in a fresh process: {seconds:.2f} s, {memory:.0f} MiB", flush=True)


def _print_start(root: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as home:
        port = _free_port()
        with running(root, Path(home), "dev", {"HEADRACE_UI_PORT": str(port)}) as platform:
            began = time.monotonic()
            _wait(platform, home, lambda: _answers(f"http://127.0.0.1:{port}/server_info"))
            print(f"headrace dev: the UI answers after {time.monotonic() - began:.1f} s", flush=True)
            _wait(platform, home, lambda: any(Path(home).glob("lakehouse/silver/events/**/*.parquet")))
            print(f"headrace dev: first supervised rows after {time.monotonic() - began:.1f} s", flush=True)


def _print_idle(root: Path, settle: float, seconds: float) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="headrace-bench-") as home,
        running(root, Path(home), "up", {}) as platform,
    ):
        began = time.monotonic()
        streams = len(list((root / "platform_assets" / "streams").glob("[a-z]*.py")))
        _wait(platform, home, lambda: len(list(Path(home).glob("lakehouse/_checkpoints/**/metadata"))) >= streams)
        print(f"headrace up: {streams} streams are there after {time.monotonic() - began:.1f} s", flush=True)
        time.sleep(settle)  # what a start leaves behind is no idle cost
        before = look(platform.pid)
        time.sleep(seconds)
        _print_costs(before, look(platform.pid), seconds)


@dataclass(frozen=True)
class _Cost:
    kind: str
    cpu_seconds: float
    rss_mib: float
    pss_mib: float


def _print_costs(before: dict[int, _Cost], after: dict[int, _Cost], seconds: float) -> None:
    rows: dict[str, list[float]] = {}
    for pid, cost in after.items():
        cores = (cost.cpu_seconds - (before[pid].cpu_seconds if pid in before else 0.0)) / seconds
        for kind in (cost.kind, "all"):
            row = rows.setdefault(kind, [0.0, 0.0, 0.0, 0])
            rows[kind] = [a + b for a, b in zip(row, (cores, cost.rss_mib, cost.pss_mib, 1), strict=True)]
    print(f"{'idle':16}{'cores':>8}{'RSS MiB':>10}{'PSS MiB':>10}{'processes':>11}")
    for kind, (cores, rss, pss, count) in sorted(rows.items(), key=lambda row: (row[0] == "all", row[0])):
        print(f"{kind:16}{cores:8.3f}{rss:10.0f}{pss:10.0f}{count:11.0f}", flush=True)


def look(pid: int) -> dict[int, _Cost]:
    """All processes of the platform. What ended children have used counts for their parents."""
    found = {}
    for process in _family(pid):
        try:
            times, memory = process.cpu_times(), process.memory_full_info()
            used = times.user + times.system + times.children_user + times.children_system
            found[process.pid] = _Cost(_kind(process), used, memory.rss / 2**20, memory.pss / 2**20)
        except psutil.NoSuchProcess:
            continue
    return found


def _family(pid: int) -> list[psutil.Process]:
    """The program with all that it has started: the broker's guard leaves its parent, so the home's name is asked."""
    home = psutil.Process(pid).environ()["HEADRACE_HOME"]
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("HEADRACE_HOME") == home or home in " ".join(process.cmdline()):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def _kind(process: psutil.Process) -> str:
    line = " ".join(process.cmdline())
    return next((kind for part, kind in _KINDS.items() if part in line), "other")


@contextmanager
def running(root: Path, home: Path, command: str, settings: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a command of the checkout for the length of the block; a SIGTERM ends it."""
    environment = {**build_environment(root), "HEADRACE_HOME": str(home), **settings}
    with (home / "platform.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "jobs.cli", command],
            cwd=root, env=environment, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(STOP_SECONDS)


def build_environment(root: Path) -> dict[str, str]:
    """The checkout's code, and the programs of this environment."""
    return {**of_checkout(root), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def _wait(platform: subprocess.Popen[bytes], home: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        if platform.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"The platform did not start:\n{(Path(home) / 'platform.log').read_text()}")
        time.sleep(LOOK_SECONDS)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5.0) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
