"""The live page of this code location: in this process for `headrace page`, in one of its own next to the platform."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from jobs.platform.metrics import build_collector
from platform_assets.errors import SettingError
from platform_assets.streams import load_stream_groups
from resources.duckdb import DuckDBResource
from resources.lakehouse import LakehouseResource
from resources.ports import is_free
from resources.settings import Settings

if TYPE_CHECKING:
    from jobs.watching.collector import PlatformCollector
    from jobs.watching.platform_reading import PlatformReading

# What is kept is a few megabytes. A compacted file of a busy table is read in parts, and would otherwise fill what
# HEADRACE_REPORTS_MEMORY_MIB gives to reports.
_MEMORY_MIB = 256
_STOP_SECONDS = 10.0


class _PlatformSource:
    """Reads Dagster's instance. The first reading loads the definitions, for seconds in which the page answers."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._collector: PlatformCollector | None = None

    def read(self) -> PlatformReading:
        """Reads as `PlatformCollector.read`."""
        if self._collector is None:
            self._collector = build_collector(self._settings)
        return self._collector.read()


@contextmanager
def serving_live_page(settings: Settings, port: int) -> Iterator[int]:
    """Serves the page for the length of the block; yields the port (0: any free one).

    Raises `SettingError` for a port that is taken. Whatever else is away, the page says so.
    """
    from jobs.page.page_reader import PageReader
    from jobs.page.panels import load_panels
    from jobs.page.server import build_app, serving_page

    memory = min(settings.reports_memory_mib, _MEMORY_MIB)
    engine = DuckDBResource.from_settings(settings.model_copy(update={"reports_memory_mib": memory}))
    panels = load_panels()
    reader = PageReader(LakehouseResource.from_settings(settings), engine, panels, load_stream_groups())
    with closing(reader), serving_page(build_app(reader, panels, _PlatformSource(settings).read), port) as found:
        yield found


def check_page_port(settings: Settings) -> None:
    """Raises `SettingError` where the page is wanted next to the platform, and its port is taken."""
    if settings.page_port and not is_free(settings.page_port):
        raise SettingError(
            f"HEADRACE_PAGE_PORT: port {settings.page_port} is taken. Stop what listens there, choose another port, or "
            "0 for no page."
        )


@contextmanager
def page_process(settings: Settings, environment: Mapping[str, str]) -> Iterator[str | None]:
    """Runs `headrace page` next to the platform for the length of the block; yields its address, None with port 0.

    A process of its own, so that neither its memory nor its end is the platform's. It ends with this one, however that
    ends.
    """
    if not settings.page_port:
        yield None
        return
    with (settings.home / "logs" / "page.log").open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "jobs.cli", "page", "--attached"],
            stdin=subprocess.PIPE, stdout=output, stderr=output, env=dict(environment), start_new_session=True,
        )  # fmt: skip
    try:
        yield f"http://127.0.0.1:{settings.page_port}/"
    finally:
        process.terminate()
        try:
            process.communicate(timeout=_STOP_SECONDS)
        except subprocess.TimeoutExpired:  # a store that hangs holds it
            process.kill()
            process.communicate()
