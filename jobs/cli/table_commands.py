"""The commands of `headrace` that look into the tables or mend them: for a bad day."""

from __future__ import annotations

import argparse
import getpass
from typing import Any

from resources.settings import Settings

# Of rows that a person must look at. Who erases these sees the next.
_MOST_SHOWN = 100


def add_table_commands(commands: Any) -> None:
    """Adds them to the subparsers of the command line."""
    text = "begin a derived stream anew: the next start computes its table again from all events"
    command = commands.add_parser("recompute", help=text, description=f"{text[0].upper()}{text[1:]}.")
    command.add_argument("stream", help="a stream over a table; its group must not run (headrace pause)")
    command.set_defaults(run=_recompute)
    text = "set the events' time back after a host's clock was ahead; what it has closed is computed again"
    command = commands.add_parser("reset-time", help=text, description=f"{text[0].upper()}{text[1:]}.")
    command.add_argument("group", nargs="?", default="", help="the stream group (default: all); it must not run")
    command.set_defaults(run=_reset_time)
    text = "make a stream's table again beside the live one, and show what differs; with --swap replace it"
    command = commands.add_parser("replay", help=text, description=f"{text[0].upper()}{text[1:]}.")
    command.add_argument("stream", help="the stream")
    what = command.add_mutually_exclusive_group()
    for name, text in (
        ("rehearse", "run this code from a copy of the live state over the last batches, and compare with their rows"),
        ("swap", "put the replayed table and its state in the place of the live ones; the group pauses for that"),
        ("undo", "take back the last swap"),
        ("abandon", "remove what has been replayed"),
    ):
        what.add_argument(f"--{name}", dest="action", action="store_const", const=name, default="compare", help=text)
    command.add_argument("--range", action="store_true", help="of what is final in a range of event time only")
    command.add_argument("--since", help="with --range: rows that begin at or after it; ISO-8601 (default: all)")
    command.add_argument("--until", help="with --range: rows that are final then (default: as far as any is)")
    command.add_argument(
        "--offsets", action="append", default=[],
        help="of a stream over Kafka: topic/partition/from-until; may be repeated (default: what Kafka holds)",
    )  # fmt: skip
    command.set_defaults(run=_replay)
    text = "show which quarantined records would be accepted now; with --accept take them in"
    command = commands.add_parser("requeue", help=text, description=f"{text[0].upper()}{text[1:]}.")
    command.add_argument("--reason", action="append", default=[], help="only those quarantined for it; may be repeated")
    command.add_argument("--since", help="only those that arrived at or after it; ISO-8601")
    command.add_argument("--until", help="only those that arrived before it")
    command.add_argument("--offset", action="append", default=[], help="only topic/partition/offset; may be repeated")
    command.add_argument("--accept", action="store_true", help="take them in; the group pauses for that")
    command.set_defaults(run=_requeue)
    text = "erase all rows of one user, remove the files that had them, and keep the user out"
    command = commands.add_parser("forget-user", help=text, description=f"{text[0].upper()}{text[1:]}.")
    command.add_argument("user", help="the user_id; - reads it from standard input, so that no shell keeps it")
    command.add_argument("--reason", required=True, help="kept in platform.forgotten_users; name nobody in it")
    command.add_argument(
        "--wait-seconds", type=float, default=600.0,
        help="for batch runs that may read the old files, before they are stopped (default: %(default)s)",
    )  # fmt: skip
    command.add_argument(
        "--also-unsure", action="store_true", help="erase as well what mentions the user and may be somebody else's"
    )
    command.add_argument(
        "--also-offset", action="append", default=[],
        help="of what mentions the user erase this record only, topic/partition/offset; may be repeated",
    )  # fmt: skip
    command.set_defaults(run=_forget)
    text = "show what Kafka deleted before it was read; with --reason record it, and let the stream go on"
    command = commands.add_parser("acknowledge-loss", help=text, description=f"{text[0].upper()}{text[1:]}.")
    command.add_argument("group", nargs="?", default="", help="the stream group (default: all)")
    command.add_argument("--reason", default="", help="kept for ever with the hole")
    command.add_argument(
        "--from", dest="go_on_from", default="", metavar="WHERE",
        help="of a topic that was created again, or is another cluster's: beginning, end, or a time (ISO-8601)",
    )  # fmt: skip
    command.set_defaults(run=_acknowledge)
    for name, text in (
        ("backup", "copy all tables and checkpoints to an empty place; no group may run (headrace pause)"),
        ("restore", "copy a backup to where the lakehouse is to be, which must be empty"),
    ):
        command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        command.add_argument("place", help="of the backup: a path or an object store URI")
        command.set_defaults(run=_copy_lakehouse, command=name)
    text = "say in sentences where a record is and what became of it"
    command = commands.add_parser("explain", help=text, description=f"{text[0].upper()}{text[1:]}.")
    asked = command.add_mutually_exclusive_group(required=True)
    asked.add_argument("--event-id", help="all records of this event")
    asked.add_argument("--offset", help="one record, as topic/partition/offset")
    asked.add_argument("--user", help="rows of this user in all tables, at the time --at or in the window --window")
    command.add_argument(
        "--at", "--window", dest="at", help="a moment, or a window's start; ISO-8601; goes with --user (default: now)"
    )
    command.set_defaults(run=_explain)


def _reset_time(args: argparse.Namespace, settings: Settings) -> int:
    from jobs.operations.reset_time import reset_time
    from jobs.operations.stream_groups import find_groups
    from platform_assets.streams import load_stream_groups

    [group] = find_groups(load_stream_groups(), args.group, "")
    found = reset_time(group, settings)
    print(f"The time of the events was {found.before:%Y-%m-%d %H:%M:%S} UTC, and is {found.now:%Y-%m-%d %H:%M:%S} UTC.")
    for name in found.streams:
        print(f"{name} begins anew with the next start: its table is computed from silver.events again.")
    print(f"Go on with: headrace resume {group.name}")
    return 0


def _recompute(args: argparse.Namespace, settings: Settings) -> int:
    from jobs.operations.recompute import recompute_stream
    from jobs.operations.stream_groups import find_groups
    from platform_assets.streams import load_stream_groups

    [group] = find_groups(load_stream_groups(), "", args.stream)
    if lost := recompute_stream(group, args.stream, settings):
        print(lost)
    print(f"{args.stream} begins anew with the next start of its group. Go on with: headrace resume {group.name}")
    return 0


def _replay(args: argparse.Namespace, settings: Settings) -> int:
    import dagster as dg

    from jobs.operations.questions import parse_moment
    from jobs.operations.replay.command import replay_stream
    from jobs.operations.replay.row_replay import Part
    from jobs.platform.services import prepare_environment
    from platform_assets.streams import load_stream_groups
    from resources.embedded_broker import running_broker

    asked = Part(parse_moment("--since", args.since), parse_moment("--until", args.until), tuple(args.offsets))
    part = asked if args.range or asked != Part() else None
    prepare_environment(settings)
    groups = load_stream_groups()
    with running_broker(settings), dg.DagsterInstance.get() as instance:
        replay_stream(groups, args.stream, args.action, settings, instance, getpass.getuser(), print, part)
    return 0


def _requeue(args: argparse.Namespace, settings: Settings) -> int:
    import dagster as dg

    from jobs.operations.requeue import build_choice, requeue_records
    from jobs.platform.services import prepare_environment
    from platform_assets.streams import load_stream_groups
    from resources.embedded_broker import running_broker

    choice = build_choice(args.reason, args.since, args.until, args.offset)
    prepare_environment(settings)
    with running_broker(settings), dg.DagsterInstance.get() as instance:
        for group in load_stream_groups():
            found = requeue_records(group, choice, settings, instance, getpass.getuser(), accept=args.accept)
            accepted, repeated = found.count("accepted"), found.count("deduplicated")
            were = "were" if args.accept else "would be"
            print(f"{group.name}: {accepted:,} records {were} accepted, {repeated:,} repeat an accepted event.")
            for reason, count in sorted(found.refused.items()):
                print(f"{group.name}: {count:,} stay in quarantine: {reason}")
            if found.marks and not args.accept:
                print("Nothing was changed. To take them in, say --accept.")
    return 0


def _forget(args: argparse.Namespace, settings: Settings) -> int:
    import sys

    import dagster as dg

    from jobs.operations.forgetting.command import forget_user
    from jobs.operations.questions import Coordinates
    from jobs.platform.reports_run import compute_changed_days
    from jobs.platform.services import prepare_environment
    from platform_assets.streaming.register.traces import AlsoErased
    from platform_assets.streams import load_stream_groups
    from resources.embedded_broker import running_broker

    user = sys.stdin.readline().rstrip("\n") if args.user == "-" else args.user
    records = [Coordinates.parse(text) for text in args.also_offset]
    also = AlsoErased(args.also_unsure, frozenset((r.topic, r.partition, r.offset) for r in records))
    prepare_environment(settings)
    with running_broker(settings), dg.DagsterInstance.get() as instance:
        by = getpass.getuser()
        done = forget_user(
            load_stream_groups(), user, settings, instance, by, args.reason, args.wait_seconds, print, also,
            compute_changed_days,
        )  # fmt: skip
    for name, rows in sorted(done.rows.items()):
        print(f"{name}: {rows:,} rows erased")
    proof = done.proof
    print(f"Proof: {proof.files:,} files, {proof.bytes / 1e6:,.1f} MB, were read; {len(proof.found)} have the user.")
    print("\n".join(f"  {path} still has the user." for path in proof.found), end="\n" if proof.found else "")
    if done.unsure:
        print(
            f"{len(done.unsure):,} rows mention the user and may be somebody else's: look at them in their tables. To "
            "erase those that are the user's, call this again with --also-offset topic/partition/offset for each of "
            "them, or with --also-unsure for all."
        )
        print("\n".join(f"  unsure: {record}" for record in done.unsure[:_MOST_SHOWN]))
    print("\n".join(f"Waits: {text}" for text in done.waits))
    return 1 if proof.found or done.unsure else 0


def _acknowledge(args: argparse.Namespace, settings: Settings) -> int:
    from jobs.operations.acknowledge_loss import acknowledge_loss
    from jobs.operations.stream_groups import find_groups
    from platform_assets.streaming.ingest.lost_ranges import describe
    from platform_assets.streams import load_stream_groups
    from resources.embedded_broker import running_broker

    with running_broker(settings):
        for group in find_groups(load_stream_groups(), args.group, ""):
            lost = acknowledge_loss(group, settings, getpass.getuser(), args.reason, args.go_on_from)
            print("\n".join(f"{group.name}: lost {item}" for item in lost) or f"{group.name}: nothing is lost.")
            if lost:
                then = f"Recorded. Go on with: headrace resume {group.name}"
                print(then if args.reason else f"Nothing was recorded. {describe(lost)}")
    return 0


def _copy_lakehouse(args: argparse.Namespace, settings: Settings) -> int:
    from jobs.operations.backup import back_up, restore
    from platform_assets.streams import load_stream_groups

    copy = back_up if args.command == "backup" else restore
    versions = copy(load_stream_groups(), settings, args.place)
    print("\n".join(f"{name}: version {version}" for name, version in versions.items()))
    print(f"{len(versions)} tables are there, with their checkpoints.")
    return 0


def _explain(args: argparse.Namespace, settings: Settings) -> int:
    from jobs.operations.explain import explain
    from platform_assets.streams import load_streams
    from resources.embedded_broker import running_broker
    from resources.kafka import KafkaResource
    from resources.lakehouse import LakehouseResource

    with running_broker(settings), KafkaResource.from_settings(settings) as kafka:
        lakehouse = LakehouseResource.from_settings(settings)
        for sentence in explain(load_streams(), lakehouse, kafka, args.event_id, args.offset, args.user, args.at):
            print(sentence)
    return 0
