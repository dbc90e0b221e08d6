"""Takes what the platform tells people, as their chat would."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Webhook:
    """Listens on loopback until `stop`. `messages` are all that were taken, oldest first."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        taken = self.messages

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                taken.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *args: object) -> None:
                """Silent: the report is on standard output."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """The address to post to."""
        return f"http://127.0.0.1:{self._server.server_port}/"

    def stop(self) -> None:
        """Ends the thread."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
