"""Has the page read again each second while somebody looks, and says so when what it reads does not answer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from jobs.page.board import Board, PageState
from jobs.page.page_reader import PageReader, PanelState, now_utc
from jobs.page.platform_view import PlatformView, RowRates
from jobs.watching.platform_reading import PlatformReading
from platform_assets.errors import HeadraceError, InstanceUnavailableError, NotReadyError

_T = TypeVar("_T")
_log = logging.getLogger(__name__)

# The page is to be two seconds behind the tables at most: a commit waits for the next look, and is then read.
_INTERVAL_SECONDS = 1.0
# Hosts report each two seconds.
_PLATFORM_SECONDS = 2.0
# A page that is followed already is given out at once; what is older is read anew.
_FRESH_SECONDS = 1.5
# A store that hangs answers in a minute, or never: from when the numbers are two seconds old the page says so.
_SLOW_SECONDS = 1.0
# A page that is loaded without a script is followed by nobody, and is read again when it is asked for.
_LINGER_SECONDS = 10.0
# So long is a first answer waited for; the page then comes without numbers, and gets them when they are there.
_FIRST_SECONDS = 3.0

ReadPlatform = Callable[[], PlatformReading]


class Refresher:
    """Fills a board. All but `PageReader` and `ReadPlatform` runs in the server's event loop.

    Those two run in threads of their own, one call at a time each: where one hangs, the other goes on.
    """

    def __init__(self, reader: PageReader, read_platform: ReadPlatform, board: Board) -> None:
        self._reader = reader
        self._read_platform = read_platform
        self._board = board
        self._view = PlatformView()
        self._rates = RowRates()
        self._asked_at = -_LINGER_SECONDS
        self._wanted = asyncio.Event()
        self._published = asyncio.Event()

    async def run(self) -> None:
        """Works until it is cancelled."""
        await asyncio.gather(self._refresh_tables(), self._refresh_platform())

    def want(self) -> None:
        """Somebody looks: the next ten seconds are read, and all that follow while there are viewers."""
        self._asked_at = time.monotonic()
        self._wanted.set()

    async def read_state(self) -> PageState:
        """The page for one who asks once: not older than a second, unless what it reads does not answer."""
        self.want()
        state = self._board.state
        if state.at is None or (now_utc() - state.at).total_seconds() > _FRESH_SECONDS:
            self._published.clear()
            try:
                await asyncio.wait_for(self._published.wait(), _FIRST_SECONDS)
            except TimeoutError:
                _log.debug("The page is given out as it stands.")
        return self._board.state

    async def _refresh_tables(self) -> None:
        while True:
            await self._wait_until_wanted()
            began = time.monotonic()
            reading = _call_in_thread(lambda: self._reader.refresh(self._view, now_utc()))
            while not reading.done():
                await asyncio.wait({reading}, timeout=_SLOW_SECONDS)
                if not reading.done():
                    self._publish_standing("The tables are slow to answer.")
            try:
                self._publish(reading.result())
            except Exception as error:  # noqa: BLE001 a mistake of ours, too: the page stands and says so
                self._publish_standing(_describe(error))
            await asyncio.sleep(max(0.0, began + _INTERVAL_SECONDS - time.monotonic()))

    async def _refresh_platform(self) -> None:
        while True:
            await self._wait_until_wanted()
            try:
                reading = await _call_in_thread(self._read_platform)
            except Exception as error:  # noqa: BLE001 the definitions of this code location may not load
                if not self._view.trouble:
                    _log.warning("The page knows nothing new of the platform: %s", error)
                self._view = replace(self._view, trouble=_describe_platform(error))
            else:
                self._view = PlatformView(reading, now_utc(), "", self._rates.add(reading))
            await asyncio.sleep(_PLATFORM_SECONDS)

    async def _wait_until_wanted(self) -> None:
        while not self._board.viewers and time.monotonic() - self._asked_at > _LINGER_SECONDS:
            self._wanted.clear()
            await self._wanted.wait()

    def _publish(self, panels: Mapping[str, PanelState]) -> None:
        shown = {name: panel.html for name, panel in panels.items()}
        good = [panel.good_at for panel in panels.values() if panel.good_at is not None]
        at = max(good, default=self._board.state.at)
        standing = [panel for panel in panels.values() if panel.trouble]
        if standing:
            since = min((panel.good_at for panel in standing if panel.good_at is not None), default=None)
            what = "All numbers" if len(standing) == len(panels) else ", ".join(panel.title for panel in standing)
            status = _say_standing(what, since, " ".join(sorted({panel.trouble for panel in standing})))
            self._board.publish(PageState(status, False, at, shown))
        else:
            self._board.publish(PageState(_LIVE, True, at, shown))
        self._published.set()

    def _publish_standing(self, why: str) -> None:
        state = self._board.state
        self._board.publish(replace(state, is_live=False, status=_say_standing("All numbers", state.at, why)))
        self._published.set()


_LIVE = "Live: at most two seconds behind the tables."


def _say_standing(what: str, since: datetime | None, why: str) -> str:
    return f"{what}: {f'as of {since:%Y-%m-%d %H:%M:%S} UTC' if since is not None else 'not known yet'}. {why}"


def _describe(error: Exception) -> str:
    _log.warning("The page cannot be made", exc_info=error)
    return str(error) if isinstance(error, HeadraceError) else f"The page cannot be made ({type(error).__name__})."


def _describe_platform(error: Exception) -> str:
    """Why nothing is known, without the folder or the database that the error names."""
    if isinstance(error, NotReadyError):
        return "The platform has not run here yet."
    if isinstance(error, InstanceUnavailableError):
        return "The storage of Dagster's instance does not answer."
    return f"Nothing is known of the platform ({type(error).__name__})."


def _call_in_thread(function: Callable[[], _T]) -> asyncio.Future[_T]:
    """Calls it in a daemon's thread: one that hangs keeps the end of the process waiting no more than the page."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_T] = loop.create_future()

    def settle(error: BaseException | None, value: _T | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(value)  # type: ignore[arg-type]

    def run() -> None:
        outcome: tuple[BaseException | None, _T | None]
        try:
            outcome = (None, function())
        except BaseException as error:  # noqa: BLE001 it belongs to who waits
            outcome = (error, None)
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile, and nobody waits
            loop.call_soon_threadsafe(settle, *outcome)

    threading.Thread(target=run, daemon=True, name="live-page").start()
    return future
