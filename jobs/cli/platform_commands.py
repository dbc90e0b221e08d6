"""The commands of `headrace` that run the platform, or what it does, from beginning to end."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack

import click
from rich.console import Console

from resources.settings import Settings, load_settings
from resources.stop_signals import StopSignals

POLL_SECONDS = 1.0
LIVE_RATE = 100.0


@click.command
@click.option(
    "--topics",
    help="Topics or groups of streams to show, or all (default: HEADRACE_GROUPS, which is the shop's).",
)
def demo(topics: str | None) -> int:
    """Run the whole platform once, and stop it.

    A simulated shop sends a day, streams and reports are computed, and every asset check is run.
    """
    from jobs.platform.demonstrated_groups import name_groups
    from jobs.platform.demonstration import run_demo

    if topics is not None:  # for this process, and for all that it starts
        os.environ["HEADRACE_GROUPS"] = name_groups(topics)
        load_settings.cache_clear()
    settings = load_settings()
    with StopSignals() as stop:
        return run_demo(settings, stop.received, _open_console())


@click.command
@click.option(
    "--rate", type=click.FloatRange(min=0), default=LIVE_RATE, show_default=True,
    help="Simulated events a second, of the shop and of the cards where their groups are enabled; 0: none.",
)  # fmt: skip
def dev(rate: float) -> int:
    """Run the platform with web UI, page and simulated shop.

    Ctrl-C ends it.
    """
    return _run_platform(load_settings(), with_ui=True, simulated_rate=rate)


@click.command
def up() -> int:
    """Run the platform headless, until SIGINT or SIGTERM."""
    return _run_platform(load_settings(), with_ui=False, simulated_rate=0.0)


@click.command
@click.option("--close-windows", is_flag=True, help="Close what is over by the clock, as if the shop had been silent.")
def drain(close_windows: bool) -> int:
    """Let every stream catch up with Kafka, then stop."""
    from jobs.operations.drain import EXIT_DONE, EXIT_INTERRUPTED, drain_streams
    from jobs.platform.services import prepare_environment
    from platform_assets.alerting.catalogue import load_groups
    from resources.embedded.servers import running_servers

    settings = load_settings()
    prepare_environment(settings)
    with running_servers(settings):
        code = EXIT_DONE
        for group in load_groups():
            code = max(code, drain_streams(group, settings, close_windows=close_windows))
            if code == EXIT_INTERRUPTED:
                break
        return code


@click.command
@click.option("--rows", is_flag=True, help="Print the rows that differ with their users, which no check keeps.")
def check(rows: bool) -> int:
    """Run all asset checks; the exit code is the verdict."""
    from jobs.platform.checks_run import run_checks
    from jobs.platform.services import prepare_environment
    from resources.embedded.servers import running_servers

    settings = load_settings()
    prepare_environment(settings)
    with running_servers(settings):
        return 0 if run_checks(_open_console(), show_rows=rows) else 1


def _open_console() -> Console:
    # Rich takes 80 columns where it sees no terminal: in a CI log the names of tables would be cut.
    return Console(width=None if sys.stdout.isatty() else 140)


def _run_platform(settings: Settings, *, with_ui: bool, simulated_rate: float) -> int:
    from jobs.platform.class_archiving import ClassArchiving
    from jobs.platform.live_page import check_page_port, page_process
    from jobs.platform.metrics import watched_where_set
    from jobs.platform.services import prepare_environment, running_platform
    from jobs.platform.simulated_streams import select_senders, sending
    from platform_assets.streams import load_streams

    console = _open_console()
    archiving = ClassArchiving(settings.home / "logs" / "class-archive.log")
    environment = prepare_environment(settings)
    if with_ui:
        check_page_port(settings)
    with (
        StopSignals() as stop, watched_where_set(settings), ExitStack() as pages,
        running_platform(settings, with_ui=with_ui) as services, ExitStack() as senders,
    ):  # fmt: skip
        page = pages.enter_context(page_process(settings, environment)) if with_ui else None
        if simulated_rate > 0:
            for stream in select_senders(load_streams()):
                senders.enter_context(sending(stream, "--rate", str(simulated_rate)))
        where = f", UI: http://127.0.0.1:{settings.ui_port}" if with_ui else ""
        if page is not None:
            where += f", live page: {page}"
        if settings.metrics_port:
            where += f", metrics: http://{settings.metrics_address}:{settings.metrics_port}/metrics"
        console.print(f"Headrace is up{where}. Tables: {settings.lakehouse}. Logs: {settings.home}/logs. Ctrl-C stops.")
        try:
            while not stop.received.wait(POLL_SECONDS):
                services.check()
                archiving.look()
            console.print("Stopping: batches in flight are finished first.")
        finally:
            archiving.stop()
    console.print("Stopped. Nothing is left running.")
    return 0
