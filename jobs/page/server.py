"""Serves the page on 127.0.0.1: HTML for the first look, and server-sent events for what changes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from importlib.resources import files

import uvicorn
from markupsafe import Markup
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobs.page.board import MOST_VIEWERS, Board
from jobs.page.page_reader import PageReader, now_utc
from jobs.page.panel import Panel
from jobs.page.refresher import ReadPlatform, Refresher
from jobs.page.rendering import render_page
from platform_assets.errors import SettingError
from resources.ports import HOST

# A page of another site may have its own name point at 127.0.0.1 (DNS rebinding) and then read what is served here. Its
# requests carry its own name.
_NAMES = [HOST, "localhost"]
_HEADERS = {
    # Nothing but our own files, and no script or style within the page: text that came with a record runs nowhere.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
    # nginx would keep events back until it has four kilobytes of them.
    "X-Accel-Buffering": "no",
}
_FILES = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
_STOP_SECONDS = 2


def build_app(reader: PageReader, panels: tuple[Panel, ...], read_platform: ReadPlatform) -> Starlette:
    """The application: `/`, `/live`, and the page's own files, by relative addresses. It changes nothing."""
    board = Board()
    refresher = Refresher(reader, read_platform, board)

    async def show_page(request: Request) -> Response:
        state = await refresher.read_state()
        shown = [(panel, Markup(state.panels.get(panel.name, ""))) for panel in panels]
        page = render_page(state=state, panels=shown, now=now_utc())
        return Response(page.encode("utf-8", "replace"), media_type="text/html; charset=utf-8")

    async def follow(request: Request) -> Response:
        if board.viewers >= MOST_VIEWERS:
            return PlainTextResponse("Too many viewers.", 503, {"Retry-After": "30"})
        refresher.want()
        return StreamingResponse(board.follow(), media_type="text/event-stream")

    async def give_file(request: Request) -> Response:
        name = request.url.path.rpartition("/")[2]
        return Response(files(__package__).joinpath(name).read_bytes(), media_type=_FILES[name])

    @contextlib.asynccontextmanager
    async def refreshing(app: Starlette) -> AsyncIterator[None]:
        task = asyncio.create_task(refresher.run())
        app.state.board, app.state.loop = board, asyncio.get_running_loop()
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    return Starlette(
        routes=[
            Route("/", show_page), Route("/live", follow),
            *(Route(f"/{name}", give_file) for name in _FILES),
        ],
        middleware=[
            Middleware(_SecurityHeaders),
            Middleware(TrustedHostMiddleware, allowed_hosts=_NAMES, www_redirect=False),
        ],
        lifespan=refreshing,
    )  # fmt: skip


class _SecurityHeaders:
    """Puts `_HEADERS` on every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"], *((name.lower().encode(), value.encode()) for name, value in _HEADERS.items())
                ]  # fmt: skip
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)


@contextlib.contextmanager
def serving_page(app: Starlette, port: int) -> Iterator[int]:
    """Serves the application for the length of the block, in a thread; yields the port (0: any free one).

    Raises `SettingError` for a port that is taken. Viewers are cut off at the end: their pages say since when.
    """
    with contextlib.closing(_listen(port)) as listener:
        config = uvicorn.Config(
            app, log_config=None, access_log=False, server_header=False, ws="none", lifespan="on",
            timeout_graceful_shutdown=_STOP_SECONDS,
        )  # fmt: skip
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="live-page-server")
        thread.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            with contextlib.suppress(AttributeError, RuntimeError):  # it has not begun, or has ended
                app.state.loop.call_soon_threadsafe(app.state.board.close)
            server.should_exit = True
            thread.join()


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise SettingError(
            f"HEADRACE_PAGE_PORT: port {port} of {HOST} cannot be had ({error.strerror}). Stop what listens there, or "
            "choose another one."
        ) from None
    return listener
