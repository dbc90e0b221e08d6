"""The command `headrace page`."""

from __future__ import annotations

import sys
import threading

import click

from platform_assets.errors import SettingError
from resources.settings import load_settings
from resources.stop_signals import StopSignals


@click.command
@click.option("--attached", is_flag=True, hidden=True, help="End with the process that holds the standard input.")
def page(attached: bool) -> None:
    """Serve the live page, until Ctrl-C.

    Revenue, funnel, sessions, products, alerts, streams and ledger, at most two seconds behind the tables. It is at
    HEADRACE_PAGE_PORT.
    """
    from jobs.platform.live_page import serving_live_page

    settings = load_settings()
    if not settings.page_port:
        raise SettingError("HEADRACE_PAGE_PORT is 0: the live page is not served. Set it to a port.")
    with StopSignals() as stop, serving_live_page(settings, settings.page_port) as port:
        print(f"http://127.0.0.1:{port}/", flush=True)
        if attached:
            threading.Thread(target=_await_end, args=(stop.received,), daemon=True).start()
        stop.received.wait()


def _await_end(ended: threading.Event) -> None:
    sys.stdin.buffer.read()
    ended.set()
