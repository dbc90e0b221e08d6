"""`headrace simulate --replay`: its options, and what it says before and while it sends."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from jobs.simulator.mapping import RowMapping
from jobs.simulator.mapping_settings import load_mapping, parse_mapping
from jobs.simulator.producer import OnWait
from jobs.simulator.recorded import Recording
from jobs.simulator.recorded_times import TIME_FORMATS, iso
from jobs.simulator.row_files import FORMATS
from jobs.simulator.sent_recordings import Sending, SentRecordings, describe_repeat
from jobs.simulator.shop import Record
from jobs.simulator.simulation import now_microseconds
from platform_assets.errors import UsageError

if TYPE_CHECKING:
    from resources.kafka import KafkaResource
    from resources.settings import Settings

# Options that mean nothing without a recording.
REPLAY_OPTIONS = ("map", "set", "value", "null", "time_format", "mapping", "format", "strict", "far_days",
                  "longest_wait")  # fmt: skip
_SHOP_OPTIONS = ("rate", "duration", "count", "hours", "seed", "users", "products", "late", "duplicates")


def add_replay_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of a replay. Called by `add_arguments` of the command."""
    replay = parser.add_argument_group("recorded clickstream")
    replay.add_argument(
        "--replay", type=Path, metavar="FILE", help="JSON lines, CSV, tab-separated (all also gzip or zstd) or Parquet"
    )
    replay.add_argument("--format", choices=FORMATS, help="default: by the file's name")
    replay.add_argument(
        "--mapping", type=Path, metavar="FILE", help="TOML or JSON with columns, constants, values, null, time_format"
    )
    replay.add_argument(
        "--map", action="append", default=[], metavar="THEIR_COLUMN=OUR_FIELD",
        help="their column may be a dotted path into nested JSON; repeatable",
    )  # fmt: skip
    replay.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="in every row; repeatable")
    replay.add_argument(
        "--value", action="append", default=[], metavar="FIELD.THEIRS=OURS", help="translate a value; repeatable"
    )
    replay.add_argument(
        "--null", action="append", default=[], metavar="TEXT", help="text that means no value, such as NA; repeatable"
    )
    replay.add_argument(
        "--time-format", metavar="FORMAT", help=f"{', '.join(TIME_FORMATS)} or a pattern such as %%Y%%m%%d%%H%%M%%S"
    )
    replay.add_argument(
        "--time",
        choices=("original", "compressed", "present"),
        default="original",
        help="original: recorded times, sent at once (default); compressed: recorded times, paced at --speed; "
        "present: times shifted to now",
    )
    replay.add_argument("--anchor", choices=("first", "last"), default="first", help="with present: which row is now")
    replay.add_argument(
        "--far-days", type=float, metavar="DAYS",
        help="leave out rows so far from the rest, unless time is original; inf: none (default: 1)",
    )  # fmt: skip
    replay.add_argument(
        "--longest-wait",
        type=float,
        metavar="SECONDS",
        help="longer silences of a paced replay are cut to it (3600)",
    )
    replay.add_argument("--strict", action="store_true", help="end at the first row that cannot become a record")


def read_recording(args: argparse.Namespace) -> Recording:
    """The recording that the options describe. Raises `UsageError`."""
    for option in _SHOP_OPTIONS:
        if getattr(args, option) is not None:
            raise UsageError(f"--{option} is for the simulated shop. Leave it out of a replay.")
    mapping = load_mapping(args.mapping) if args.mapping else RowMapping()
    limits = {name: getattr(args, name) for name in ("far_days", "longest_wait") if getattr(args, name) is not None}
    return Recording(
        path=args.replay,
        format=args.format,
        mapping=mapping.merged(parse_mapping(args.map, args.set, args.value, args.null, args.time_format)),
        time=args.time,
        speed=args.speed,
        anchor=args.anchor,
        strict=args.strict,
        **limits,
    )


def begin_replay(
    recording: Recording, settings: Settings, kafka: KafkaResource, topic: str, console: Console
) -> Iterator[Record]:
    """The records, after a warning if they were sent to this topic before. Raises `UsageError`."""
    ids = recording.mapping.column_of("event_id")
    sending = Sending(recording.file.digest(), topic, kafka.topic_id(topic), ids, datetime.now(UTC))
    records = recording.records(now_microseconds())
    sent = SentRecordings(settings.home / "sent_recordings.jsonl")
    try:
        if earlier := sent.find(sending):
            horizon = settings.deduplication_horizon_minutes if settings.deduplication else None
            shifted = recording.time == "present"
            _warn(console, describe_repeat(sending, earlier, horizon, shifted=shifted))
        sent.add(sending)
    except OSError as error:
        _warn(console, f"Whether this recording was sent before is not known: {sent.path} ({error.strerror}).")
    return records


def say_wait(recording: Recording, console: Console) -> OnWait:
    """A line for each long wait of a paced replay."""

    def say(seconds: float) -> None:
        wait, until = timedelta(seconds=round(seconds)), datetime.now(UTC) + timedelta(seconds=seconds)
        number, at = recording.tally.paced_row
        _warn(console, f"Waiting {wait}, until {until:%Y-%m-%d %H:%M:%S} UTC, with row {number:,} of {iso(at)}.")

    return say


def say_tally(recording: Recording, console: Console) -> None:
    """The bad rows, and what else a person must know of the replay that has ended."""
    for line in recording.tally.warnings(is_paced=recording.pace is not None):
        _warn(console, line)


def _warn(console: Console, text: str) -> None:
    console.print(text, style="yellow", markup=False, highlight=False)
