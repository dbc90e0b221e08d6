"""How much Dagster's storage grows in a day under a healthy platform with a live shop, and what grows in it.

The whole platform runs headless in a fresh home. Dagster's databases are measured after the first minutes and at the
end; the difference is extrapolated to a day. Events stay until their run is deleted; ticks that did nothing are kept
for a day (`retention` in dagster.yaml), so that what they take is a level and not growth. SQLite stores an event of a
run twice: in the run's own database and in the index. Run: `make bench ARGS=event_log` (an hour and five minutes).
"""

from __future__ import annotations

import argparse
import sqlite3
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

from benchmarks.live_platform import run_in_fresh_home, running_platform_and_shop, wait_for
from jobs.supervision.lease import read_report
from platform_assets.streams import load_stream_groups
from resources.settings import Settings

WARM_UP_SECONDS = 240.0
DAY_SECONDS = 86_400.0


def main() -> None:
    """Prints the growth of each kind of database, and the events by type."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", default="100", help="live events a second")
    parser.add_argument("--home", help="internal: the home of the measured platform")
    args = parser.parse_args()
    if args.home is None:
        run_in_fresh_home("benchmarks.event_log")
    with running_platform_and_shop(args.rate) as settings:
        _await_streams(settings)
        time.sleep(WARM_UP_SECONDS)
        began, sizes, events = time.monotonic(), _read_sizes(settings), _read_events(settings)
        time.sleep(args.minutes * 60)
        days = (time.monotonic() - began) / DAY_SECONDS
        grown = {kind: size - sizes[kind] for kind, size in _read_sizes(settings).items()}
        added = _read_events(settings) - events
    for kind, size in grown.items():
        print(f"{kind:28} {size / days / 1e6:8.1f} MB a day")
    print(f"{'events and runs together':28} {(grown['events'] + grown['runs']) / days / 1e6:8.1f} MB a day")
    for name, count in added.most_common():
        print(f"  {name:32} {count / days:8.0f} a day")


def _await_streams(settings: Settings) -> None:
    import dagster as dg

    (group,) = load_stream_groups()
    with dg.DagsterInstance.get() as instance:
        wait_for(lambda: (report := read_report(instance, group.name)) and report.queries, "the streams")


def _read_sizes(settings: Settings) -> dict[str, int]:
    home = settings.dagster_home
    kinds = {"events": "history/runs/*.db", "runs": "history/*.db", "ticks": "schedules/*.db"}
    return {kind: sum(_read_size(path) for path in home.glob(pattern)) for kind, pattern in kinds.items()}


def _read_size(path: Path) -> int:
    """The bytes of the pages that hold something: a file does not shrink, nor grow with each row."""
    with closing(sqlite3.connect(path)) as database:
        pages, free, bytes_ = (
            database.execute(f"pragma {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
    return int((pages - free) * bytes_)


def _read_events(settings: Settings) -> Counter[str]:
    with closing(sqlite3.connect(settings.dagster_home / "history" / "runs" / "index.db")) as database:
        rows = database.execute("select dagster_event_type, count(*) from event_logs group by 1").fetchall()
    return Counter({name or "log line": count for name, count in rows})


if __name__ == "__main__":
    main()
