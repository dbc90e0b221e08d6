"""Answers what to show to a user: from a reader that stays open, and over HTTP for who cannot read Delta."""

from __future__ import annotations

import json
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


def open_lookup(lakehouse: LakehouseResource) -> RecommendationLookup:
    """A look-up in the lakehouse's table. Raises `NotReadyError` where no run has written it yet."""
    from deltalake.exceptions import TableNotFoundError

    from platform_assets.reports.whole.recommendation_lookup import RecommendationLookup

    try:
        return RecommendationLookup(lakehouse)
    except TableNotFoundError:
        raise NotReadyError(
            f"{PRODUCT_RECOMMENDATIONS_TABLE.name} was not computed yet. The nightly run does it; or materialize it in "
            "the UI."
        ) from None


def build_server(lookup: RecommendationLookup, port: int) -> HTTPServer:
    """A server on 127.0.0.1 that answers GET /recommendations?user=U&country=C&most=N, one request at a time.

    `port` 0: any free one. The caller runs it, on the thread that uses `lookup`, and closes it. Raises `SettingError`
    for a port that is taken.
    """
    try:
        return HTTPServer(("127.0.0.1", port), _build_handler(lookup.look_up))
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


def _build_handler(look_up: Callable[..., list[dict[str, Any]]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = urlsplit(self.path)
            given = {name: values[0] for name, values in parse_qs(asked.query).items()}
            most = given.get("most", "10")
            if asked.path != "/recommendations" or "user" not in given or not most.isdecimal():
                self._answer(400, {"error": "GET /recommendations?user=U, and perhaps &country=C&most=10"})
                return
            self._answer(200, look_up(given["user"], given.get("country"), min(int(most), _MOST)))

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
