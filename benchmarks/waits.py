"""What a person waits for: `make demo` after set-up, this checkout and an earlier one, medians.

    make bench ARGS=waits
    make bench ARGS="waits --before ../headrace-before --rounds 3"

Both checkouts must be set up (`make setup`); the runs take turns, each in a home of its own. Wall seconds are of the
command. CPU-seconds are of the whole machine meanwhile, for the processes that a platform starts outlive their
parents: run it on a machine that does nothing else. `silence` is the longest time in which the terminal showed nothing
new. The lines that the command prints say how far it was when.
"""

from __future__ import annotations

import argparse
import os
import pty
import re
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.own_environment import ROOT, without_settings

# "   41 s  Done: the history to be read", among the codes by which a terminal is drawn.
_STEP = re.compile(r"(\d+) s(?:\x1b\[0m)?\s+([A-Z][^\x1b\r\n]+)")


@dataclass
class _Run:
    seconds: float
    cpu_seconds: float
    silence_seconds: float
    steps: dict[str, float] = field(default_factory=dict)


def main() -> None:
    """Prints a table: a line for each figure, a column for each checkout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="an earlier checkout, measured in turn with this one")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    checkouts = [root.absolute() for root in (args.before, ROOT) if root is not None]
    runs: dict[Path, list[_Run]] = {root: [] for root in checkouts}
    for number in range(args.rounds):
        for root in checkouts:
            run = _run_demo(root)
            runs[root].append(run)
            print(f"round {number + 1}, {root.name}: {run.seconds:.0f} s, {run.cpu_seconds:.0f} CPU-s", flush=True)
    for root, found in runs.items():
        _print_medians(root, found)


def _print_medians(root: Path, runs: list[_Run]) -> None:
    print(f"\n{root.name}: medians of {len(runs)}")
    print(f"  make demo: {statistics.median(run.seconds for run in runs):.0f} s", end="")
    print(f", {statistics.median(run.cpu_seconds for run in runs):.0f} CPU-s", end="")
    print(f", longest silence {statistics.median(run.silence_seconds for run in runs):.1f} s")
    for step in runs[0].steps:
        print(f"  {statistics.median(run.steps.get(step, float('nan')) for run in runs):6.0f} s  {step}")


def _run_demo(root: Path) -> _Run:
    """Runs the demonstration in a terminal, as a person does. Raises when it fails."""
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as home:
        environment = {**without_settings(), "HEADRACE_HOME": home, "TERM": "xterm", "COLUMNS": "140"}
        screen, terminal = pty.openpty()
        began, cpu_before = time.monotonic(), _machine_cpu_seconds()
        process = subprocess.Popen(
            [root / ".venv/bin/headrace", "demo"],
            cwd=root, env=environment, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True,
        )  # fmt: skip
        os.close(terminal)
        text, silence, last = "", 0.0, began
        while part := _read(screen):
            text, silence, last = text + part, max(silence, time.monotonic() - last), time.monotonic()
        os.close(screen)
        if process.wait() != 0:
            raise SystemExit(f"{root}: the demonstration failed.\n{text}")
        steps = {what.strip(): float(seconds) for seconds, what in _STEP.findall(text)}
        return _Run(time.monotonic() - began, _machine_cpu_seconds() - cpu_before, silence, steps)


def _read(screen: int) -> str:
    try:
        return os.read(screen, 65536).decode(errors="replace")
    except OSError:  # what a terminal says when nobody has it open any more
        return ""


def _machine_cpu_seconds() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.system + times.nice)


if __name__ == "__main__":
    main()
