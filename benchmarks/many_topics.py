"""What 20 topics with 60 streams, a group each, cost next to the two groups that ship.

In a copy of the project, with topics and streams as `headrace new-topic` writes them:
  load     seconds and memory of a fresh process that builds the definitions (median of 3)
  tick     the supervisor's tick, each group with a live run and a past of fifty (`ticks`)
  memory   daemon and code server of `headrace up`, after `--settle` seconds; the streams wait for a schedule
Run: `make bench ARGS=many_topics` (about six minutes).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.idle import LOAD, build_environment, look, running
from benchmarks.own_environment import ROOT

STREAM_FIELDS = ("state", "country", "channel")
GROUPS = {"the two that ship": "clickstream,payments", "{topics} topics more": "all"}
# The streams of 20 groups would need 20 JVMs: only the daemon is measured, and no catching up is near.
WITHOUT_STREAMS = {"HEADRACE_STREAMING_MODE": "scheduled", "HEADRACE_DRAIN_CRON": "0 0 1 1 *"}
_TICKS = """
import statistics, sys, tempfile, pathlib
from benchmarks.ticks import measure_ticks
from platform_assets.streams import load_stream_groups
from resources.settings import Settings
with tempfile.TemporaryDirectory(prefix="headrace-bench-") as home:
    print(statistics.median(measure_ticks(Settings(home=pathlib.Path(home)), load_stream_groups(), int(sys.argv[1]))))
"""


def main() -> None:
    """Prints a row for each choice of groups."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--topics", type=int, default=20)
    parser.add_argument("--ticks", type=int, default=50)
    parser.add_argument("--settle", type=float, default=45.0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as place:
        root = Path(place) / "project"
        for folder in ("platform_assets", "jobs", "resources", "benchmarks"):
            shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
        for file in ("pyproject.toml", "workspace.yaml"):
            shutil.copy(ROOT / file, root)
        _write_topics(root, args.topics)
        print(f"{'':22}{'load s':>8}{'MiB':>6}{'tick ms':>9}{'daemon MiB':>12}{'code server MiB':>17}")
        for title, groups in GROUPS.items():
            seconds, memory = _measure_load(root, groups)
            tick = float(_run(root, groups, _TICKS, str(args.ticks)))
            daemon, server = _measure_memory(root, groups, args.settle)
            name = title.format(topics=args.topics)
            print(f"{name:22}{seconds:8.2f}{memory:6.0f}{tick:9.1f}{daemon:12.0f}{server:17.0f}", flush=True)


def _write_topics(root: Path, count: int) -> None:
    """Topics of ten fields, each with three streams and a group."""
    from jobs.operations.new_topic.draft import draft_topic
    from jobs.operations.new_topic.samples import read_samples
    from jobs.operations.new_topic.stream_file import name_stream, write_group, write_stream
    from jobs.operations.new_topic.topic_file import write_topic

    samples = root / "samples.jsonl"
    samples.write_text("\n".join(json.dumps(_build_record(number)) for number in range(100)))
    read = read_samples(samples)
    for number in range(count):
        draft = draft_topic(f"topic_{number}", f"bench-{number}", read)
        (root / f"platform_assets/topics/{draft.name}.py").write_text(write_topic(draft, "By samples."))
        (root / f"platform_assets/groups/{draft.name}.py").write_text(write_group(draft))
        for field in STREAM_FIELDS:
            counted = dataclasses.replace(draft, group_by=field)
            path = root / f"platform_assets/streams/{name_stream(counted)}.py"
            path.write_text(write_stream(counted, 31.0))


def _build_record(number: int) -> dict[str, object]:
    return {
        "id": f"r-{number}", "sent_at": f"2026-03-01T12:{number % 60:02}:00Z", "user_id": f"u-{number % 9}",
        "state": "ab"[number % 2], "country": ("DE", "FR", "IT")[number % 3], "channel": "xy"[number % 2],
        "price": number / 4, "count": number, "note": "text", "place": {"x": number / 3, "y": 1.5},
    }  # fmt: skip


def _run(root: Path, groups: str, code: str, *arguments: str) -> str:
    environment = {**build_environment(root), "HEADRACE_GROUPS": groups}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{groups}: {done.stderr[-2000:]}")
    return done.stdout.splitlines()[-1]


def _measure_load(root: Path, groups: str) -> tuple[float, float]:
    found = [[float(number) for number in _run(root, groups, LOAD).split()] for _ in range(3)]
    seconds, memory = (statistics.median(column) for column in zip(*found, strict=True))
    return seconds, memory


def _measure_memory(root: Path, groups: str, settle: float) -> tuple[float, float]:
    settings = {**WITHOUT_STREAMS, "HEADRACE_GROUPS": groups}
    with (
        tempfile.TemporaryDirectory(prefix="headrace-bench-") as home,
        running(root, Path(home), "up", settings) as platform,
    ):
        time.sleep(settle)
        if platform.poll() is not None:
            sys.exit(f"The platform has ended:\n{(Path(home) / 'platform.log').read_text()[-2000:]}")
        costs = look(platform.pid).values()
        daemon, server = (
            sum(cost.pss_mib for cost in costs if cost.kind == kind) for kind in ("daemon", "code server")
        )
        return daemon, server


if __name__ == "__main__":
    main()
