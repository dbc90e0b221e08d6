"""The command `headrace`: what the Makefile's targets and service managers call."""

from __future__ import annotations

import argparse
import signal
import sys

from rich.console import Console

from jobs.cli.table_commands import add_table_commands
from jobs.simulator import command as simulate
from platform_assets.errors import HeadraceError, InterruptedByUserError
from resources.settings import Settings, load_settings
from resources.stop_signals import StopSignals

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
    add_table_commands(commands)
    dev = commands.choices["dev"]
    commands.choices["drain"].add_argument(
        "--close-windows", action="store_true", help="close what is over by the clock, as if the shop had been silent"
    )
    commands.choices["check"].add_argument(
        "--rows", action="store_true", help="print the rows that differ with their users, which no check keeps"
    )
    dev.add_argument("--rate", default=LIVE_RATE, help="simulated events a second; 0: no shop (default: %(default)s)")
    sender = commands.add_parser("simulate", help="send events of a simulated shop, or replay a recorded clickstream")
    simulate.add_arguments(sender)
    sender.set_defaults(run=simulate.run)
    return parser


def _open_console() -> Console:
    # Rich takes 80 columns where it sees no terminal: in a CI log the names of tables would be cut.
    return Console(width=None if sys.stdout.isatty() else 140)


def _demo(args: argparse.Namespace, settings: Settings) -> int:
    from jobs.platform.demonstration import run_demo

    with StopSignals() as stop:
        return run_demo(settings, stop.received, _open_console())


def _dev(args: argparse.Namespace, settings: Settings) -> int:
    return _run_platform(settings, with_ui=True, shop_rate=args.rate)


def _up(args: argparse.Namespace, settings: Settings) -> int:
    return _run_platform(settings, with_ui=False, shop_rate="0")


def _run_platform(settings: Settings, *, with_ui: bool, shop_rate: str) -> int:
    import subprocess

    from jobs.platform.class_archiving import ClassArchiving
    from jobs.platform.services import running_platform

    console = _open_console()
    archiving = ClassArchiving(settings.home / "logs" / "class-archive.log")
    with StopSignals() as stop, running_platform(settings, with_ui=with_ui) as services:
        shop = None
        if float(shop_rate) > 0:
            command = [sys.executable, "-m", "jobs.cli", "simulate", "--rate", shop_rate, "--quiet"]
            shop = subprocess.Popen(command, start_new_session=True)
        where = f", UI: http://127.0.0.1:{settings.ui_port}" if with_ui else ""
        console.print(f"Headrace is up{where}. Tables: {settings.lakehouse}. Logs: {settings.home}/logs. Ctrl-C stops.")
        try:
            while not stop.received.wait(POLL_SECONDS):
                services.check()
                archiving.look()
            console.print("Stopping: batches in flight are finished first.")
        finally:
            archiving.stop()
            if shop is not None:
                shop.terminate()
                shop.wait(30)
    console.print("Stopped. Nothing is left running.")
    return 0


def _drain(args: argparse.Namespace, settings: Settings) -> int:
    from jobs.operations.drain import drain_streams
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

    from jobs.operations.stream_groups import find_groups
    from jobs.platform.services import prepare_environment
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


def _check(args: argparse.Namespace, settings: Settings) -> int:
    from jobs.platform.checks_run import run_checks
    from jobs.platform.services import prepare_environment
    from resources.embedded_broker import running_broker

    prepare_environment(settings)
    with running_broker(settings):
        return 0 if run_checks(_open_console(), show_rows=args.rows) else 1


if __name__ == "__main__":
    sys.exit(main())
