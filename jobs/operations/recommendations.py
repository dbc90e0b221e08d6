"""Answers what to show to a user: from a reader that stays open, and over HTTP for who cannot read Delta."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from platform_assets.errors import NotReadyError, SettingError
from platform_assets.reports.whole.recommendation_tables import PRODUCT_RECOMMENDATIONS_TABLE

if TYPE_CHECKING:
    from platform_assets.reports.whole.recommendation_lookup import RecommendationLookup
    from resources.lakehouse import LakehouseResource

# A page shows ten; a caller that wants more than this reads the table.
_MOST = 100
# One request at a time: a browser opens connections in advance, and one that stays silent would stop all others.
_SILENT_SECONDS = 2.0


def open_lookup(lakehouse: LakehouseResource) -> RecommendationLookup:
    """A look-up in the lakehouse's table. Raises `NotReadyError` where no run has written it yet."""
    from deltalake.exceptions import TableNotFoundError

    from platform_assets.reports.whole.recommendation_lookup import RecommendationLookup

    try:
        return RecommendationLookup(lakehouse)
    except TableNotFoundError:
        raise NotReadyError(
            f"{PRODUCT_RECOMMENDATIONS_TABLE.name} was not computed yet. The nightly run does it, where the "
            "shop's events are read (clickstream in HEADRACE_GROUPS); or materialize it in the UI."
        ) from None


def build_server(lookup: RecommendationLookup, port: int) -> HTTPServer:
    """A server on 127.0.0.1 that answers GET /recommendations?user=U&country=C&most=N, one request at a time.

    `port` 0: any free one. The caller runs it, on the thread that uses `lookup`, and closes it. Raises `SettingError`
    for a port that is taken.
    """
    try:
        return _Server(("127.0.0.1", port), _build_handler(lookup.look_up))
    except OSError as error:
        raise SettingError(
            f"HEADRACE_RECOMMENDATIONS_PORT: port {port} cannot be had ({error.strerror}). Choose another one."
        ) from None


def serve_recommendations(lakehouse: LakehouseResource, port: int) -> None:
    """Serves until Ctrl-C. Raises `SettingError` where the setting says that nothing is served."""
    if not port:
        raise SettingError("HEADRACE_RECOMMENDATIONS_PORT is 0: recommendations are not served. Set it to a port.")
    with open_lookup(lakehouse) as lookup, build_server(lookup, port) as server:
        print(f"http://127.0.0.1:{server.server_port}/recommendations?user=U&country=C", flush=True)
        server.serve_forever()


class _Server(HTTPServer):
    # Those who wait for their turn. Of more than the default of five the kernel drops the next ones: they try again
    # after one second, three, seven, and give up.
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has hung up is nothing to tell of."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def _build_handler(look_up: Callable[..., list[dict[str, Any]]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _SILENT_SECONDS

        def do_GET(self) -> None:
            if not _is_own_name(self.headers.get("Host")):
                self._answer(421, {"error": "ask for 127.0.0.1 or localhost"})
                return
            if (asked := _read_question(self.path)) is None:
                self._answer(400, {"error": "GET /recommendations?user=U, and perhaps &country=C&most=10"})
                return
            self._answer(200, look_up(*asked))

        def log_message(self, format: str, *args: Any) -> None:
            """Writes nothing: a line would name the user, and stay when the user is forgotten."""

        def _answer(self, status: int, body: Any) -> None:
            text = json.dumps(body, default=str).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

    return Handler


def _is_own_name(host: str | None) -> bool:
    """Whether a request is meant for this server; without a name it comes from no browser.

    A page of another site may have its own name point at 127.0.0.1 (DNS rebinding) and then read what is answered here.
    """
    try:
        return host is None or urlsplit(f"//{host}").hostname in ("127.0.0.1", "localhost")
    except ValueError:
        return False


def _read_question(target: str) -> tuple[str, str | None, int] | None:
    """User, country and number of a request's target; None for one that asks for something else."""
    try:
        asked = urlsplit(target)
        given = {name: values[0] for name, values in parse_qs(asked.query).items()}
        most = int(given.get("most", "10"))
    except ValueError:  # neither an address nor a number, or one of thousands of digits
        return None
    if asked.path != "/recommendations" or "user" not in given or most < 0:
        return None
    return given["user"], given.get("country"), min(most, _MOST)
