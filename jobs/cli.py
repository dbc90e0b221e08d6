"""The command `headrace`: what the Makefile's targets and service managers call."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from jobs.simulator import command as simulate
from platform_assets.errors import HeadraceError, InterruptedByUserError
from resources.settings import Settings, load_settings

POLL_SECONDS = 1.0
LIVE_RATE = "100"


def main(arguments: list[str] | None = None) -> int:
    """Parses the command line and runs the command. Returns the exit code; errors of ours are one line on stderr."""
    parser = _build_parser()
    args = parser.parse_args(arguments)
    try:
        return int(args.run(args, load_settings()))
    except InterruptedByUserError:
        return 128 + signal.SIGINT
    except HeadraceError as error:
        print(f"headrace: {error}", file=sys.stderr)
        return 1


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="headrace", description="Supervised streams: Kafka, Spark, Delta, Dagster.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, run, text in (
        ("demo", _demo, "the whole platform once, from a simulated day to checked results; then everything stops"),
        ("dev", _dev, "the platform with the web UI and a simulated shop, until Ctrl-C"),
        ("up", _up, "the platform headless, until SIGINT or SIGTERM"),
        ("drain", _drain, "every stream catches up with what Kafka holds now; then everything stops"),
        ("check", _check, "run the asset checks against the current lakehouse; the exit code is the verdict"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
    for name, text in (
        ("pause", "stop a group at a batch boundary and hold it until it is resumed"),
        ("resume", "end every hold of a group: pause, Terminate, crash loop, an error that needed a mend"),
        ("restart", "stop a group at a batch boundary and start it again"),
    ):
        command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        command.add_argument("group", nargs="?", default="", help="the stream group (default: all)")
        command.add_argument("--stream", default="", help="one stream of the group only, while the others go on")
        command.add_argument("--reason", default="", help="shown where the hold is shown")
        command.set_defaults(run=_control, command=name)
    text = "begin a derived stream anew: the next start computes its table again from all events"
    command = commands.add_parser("recompute", help=text, description=f"{text[0].upper()}{text[1:]}.")
    command.add_argument("stream", help="a stream over a table; its group must not run (headrace pause)")
    command.set_defaults(run=_recompute)
    text = "make a derived stream's table again beside the live one, and show what differs; with --swap replace it"
    command = commands.add_parser("replay", help=text, description=f"{text[0].upper()}{text[1:]}.")
    command.add_argument("stream", help="a stream over silver.events")
    what = command.add_mutually_exclusive_group()
    for name, text in (
        ("swap", "put the replayed table and its state in the place of the live ones; the group pauses for that"),
        ("undo", "take back the last swap"),
        ("abandon", "remove what has been replayed"),
    ):
        what.add_argument(f"--{name}", dest="action", action="store_const", const=name, default="compare", help=text)
    command.set_defaults(run=_replay)
    text = "show which quarantined records would be accepted now; with --accept take them in"
    command = commands.add_parser("requeue", help=text, description=f"{text[0].upper()}{text[1:]}.")
    command.add_argument("--reason", action="append", default=[], help="only those quarantined for it; may be repeated")
    command.add_argument("--since", help="only those that arrived at or after it; ISO-8601")
    command.add_argument("--until", help="only those that arrived before it")
    command.add_argument("--offset", action="append", default=[], help="only topic/partition/offset; may be repeated")
    command.add_argument("--accept", action="store_true", help="take them in; the group pauses for that")
    command.set_defaults(run=_requeue)
    text = "show what Kafka deleted before it was read; with --reason record it, and let the stream go on"
    command = commands.add_parser("acknowledge-loss", help=text, description=f"{text[0].upper()}{text[1:]}.")
    command.add_argument("group", nargs="?", default="", help="the stream group (default: all)")
    command.add_argument("--reason", default="", help="kept for ever with the hole")
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
    dev = commands.choices["dev"]
    commands.choices["drain"].add_argument(
        "--close-windows", action="store_true", help="close what is over by the clock, as if the shop had been silent"
    )
    dev.add_argument("--rate", default=LIVE_RATE, help="simulated events a second; 0: no shop (default: %(default)s)")
    sender = commands.add_parser("simulate", help="send events of a simulated shop, or replay a recorded clickstream")
    simulate.add_arguments(sender)
    sender.set_defaults(run=simulate.run)
    return parser


def _open_console() -> Console:
    # Rich takes 80 columns where it sees no terminal: in a CI log the names of tables would be cut.
    return Console(width=None if sys.stdout.isatty() else 140)


@contextmanager
def _stop_on_signals() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set; a second Ctrl-C while stopping changes nothing."""
    stop = threading.Event()
    previous = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _demo(args: argparse.Namespace, settings: Settings) -> int:
    from jobs.platform.demonstration import run_demo

    with _stop_on_signals() as stop:
        return run_demo(settings, stop, _open_console())


def _dev(args: argparse.Namespace, settings: Settings) -> int:
    return _run_platform(settings, with_ui=True, shop_rate=args.rate)


def _up(args: argparse.Namespace, settings: Settings) -> int:
    return _run_platform(settings, with_ui=False, shop_rate="0")


def _run_platform(settings: Settings, *, with_ui: bool, shop_rate: str) -> int:
    import subprocess

    from jobs.platform.services import running_platform

    console = _open_console()
    with _stop_on_signals() as stop, running_platform(settings, with_ui=with_ui) as services:
        shop = None
        if float(shop_rate) > 0:
            command = [sys.executable, "-m", "jobs.cli", "simulate", "--rate", shop_rate, "--quiet"]
            shop = subprocess.Popen(command, start_new_session=True)
        where = f", UI: http://127.0.0.1:{settings.ui_port}" if with_ui else ""
        console.print(f"Headrace is up{where}. Tables: {settings.lakehouse}. Logs: {settings.home}/logs. Ctrl-C stops.")
        try:
            while not stop.wait(POLL_SECONDS):
                services.check()
            console.print("Stopping: batches in flight are finished first.")
        finally:
            if shop is not None:
                shop.terminate()
                shop.wait(30)
    console.print("Stopped. Nothing is left running.")
    return 0


def _drain(args: argparse.Namespace, settings: Settings) -> int:
    from jobs.drain import drain_streams
    from jobs.platform.services import prepare_environment
    from platform_assets.streams import load_stream_groups
    from resources.embedded_broker import running_broker

    prepare_environment(settings)
    with running_broker(settings):
        close = args.close_windows
        return max(drain_streams(group, settings, close_windows=close) for group in load_stream_groups())


def _control(args: argparse.Namespace, settings: Settings) -> int:
    import getpass

    import dagster as dg

    from jobs.platform.services import prepare_environment
    from jobs.stream_groups import find_groups
    from jobs.supervision.lease import write_control
    from platform_assets.streams import load_stream_groups

    prepare_environment(settings)
    groups = find_groups(load_stream_groups(), args.group, args.stream)
    with dg.DagsterInstance.get() as instance:
        for group in groups:
            write_control(instance, group.name, args.command, getpass.getuser(), args.reason, stream=args.stream)
            what = f"{group.name}: {args.command}" + (f" of stream {args.stream}" if args.stream else "")
            print(f"{what} is recorded; it is acted on within seconds.")
    return 0


def _recompute(args: argparse.Namespace, settings: Settings) -> int:
    from jobs.recompute import recompute_stream
    from jobs.stream_groups import find_groups
    from platform_assets.streams import load_stream_groups

    [group] = find_groups(load_stream_groups(), "", args.stream)
    recompute_stream(group, args.stream, settings)
    print(f"{args.stream} begins anew with the next start of its group. Go on with: headrace resume {group.name}")
    return 0


def _replay(args: argparse.Namespace, settings: Settings) -> int:
    import getpass

    import dagster as dg

    from jobs.platform.services import prepare_environment
    from jobs.replay.command import replay_stream
    from jobs.stream_groups import find_groups
    from platform_assets.streams import load_stream_groups
    from resources.embedded_broker import running_broker

    prepare_environment(settings)
    [group] = find_groups(load_stream_groups(), "", args.stream)
    with running_broker(settings), dg.DagsterInstance.get() as instance:
        replay_stream(group, args.stream, args.action, settings, instance, getpass.getuser(), print)
    return 0


def _requeue(args: argparse.Namespace, settings: Settings) -> int:
    import getpass

    import dagster as dg

    from jobs.platform.services import prepare_environment
    from jobs.requeue import build_choice, requeue_records
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


def _acknowledge(args: argparse.Namespace, settings: Settings) -> int:
    import getpass

    from jobs.acknowledge_loss import acknowledge_loss
    from jobs.stream_groups import find_groups
    from platform_assets.streams import load_stream_groups
    from resources.embedded_broker import running_broker

    with running_broker(settings):
        for group in find_groups(load_stream_groups(), args.group, ""):
            lost = acknowledge_loss(group, settings, getpass.getuser(), args.reason)
            print("\n".join(f"{group.name}: lost {item}" for item in lost) or f"{group.name}: nothing is lost.")
            if lost:
                then = f"Recorded. Go on with: headrace resume {group.name}"
                print(then if args.reason else "Nothing was recorded. To go on without them, say --reason '...'.")
    return 0


def _copy_lakehouse(args: argparse.Namespace, settings: Settings) -> int:
    from jobs.backup import back_up, restore
    from platform_assets.streams import load_stream_groups

    copy = back_up if args.command == "backup" else restore
    versions = copy(load_stream_groups(), settings, args.place)
    print("\n".join(f"{name}: version {version}" for name, version in versions.items()))
    print(f"{len(versions)} tables are there, with their checkpoints.")
    return 0


def _explain(args: argparse.Namespace, settings: Settings) -> int:
    from jobs.explain import explain
    from platform_assets.streams import load_streams
    from resources.embedded_broker import running_broker
    from resources.kafka import KafkaResource
    from resources.lakehouse import LakehouseResource

    with running_broker(settings), KafkaResource.from_settings(settings) as kafka:
        lakehouse = LakehouseResource.from_settings(settings)
        for sentence in explain(load_streams(), lakehouse, kafka, args.event_id, args.offset, args.user, args.at):
            print(sentence)
    return 0


def _check(args: argparse.Namespace, settings: Settings) -> int:
    from jobs.platform.checks_run import run_checks
    from jobs.platform.services import prepare_environment
    from resources.embedded_broker import running_broker

    prepare_environment(settings)
    with running_broker(settings):
        return 0 if run_checks(_open_console()) else 1


if __name__ == "__main__":
    sys.exit(main())
