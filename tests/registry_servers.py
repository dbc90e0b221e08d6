"""HTTP servers on this machine that stand before, or in the place of, a schema registry."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

Handler = http.server.BaseHTTPRequestHandler


@contextlib.contextmanager
def serving(handle: Callable[[Handler], None], tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Yields the address of a server that gives each request to `handle`."""

    class OneServer(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # headers and body are two writes: the second would wait for 40 ms

        def do_GET(self) -> None:
            # A client that has heard enough closes the connection.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError, ssl.SSLError):
                handle(self)

        do_POST = do_PUT = do_GET  # noqa: N815 - the names are http.server's

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """Says nothing: handshakes that fail are what some tests are about."""

        def finish_request(self, request: object, client_address: object) -> None:
            # In the connection's own thread: a handshake that never ends holds up nobody else.
            wrapped = tls.wrap_socket(request, server_side=True) if tls else request  # type: ignore[arg-type]
            super().finish_request(wrapped, client_address)  # type: ignore[arg-type]
            if tls:
                wrapped.close()  # type: ignore[attr-defined]

    server = Server(("127.0.0.1", 0), OneServer)
    server.daemon_threads = True
    server.block_on_close = False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def reply(request: Handler, content: object, status: int = 200, **headers: str) -> None:
    """Answers with JSON, or with the bytes themselves."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    request.send_response(status)
    request.send_header("Content-Length", str(len(body)))
    for name, value in headers.items():
        request.send_header(name.replace("_", "-"), value)
    request.end_headers()
    request.wfile.write(body)


def forward(address: str, authorization: str) -> Callable[[Handler], None]:
    """Passes requests of one account on to the registry at `address`, and refuses all others."""
    behind = urlsplit(address)

    def handle(request: Handler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        if request.headers.get("Authorization") != authorization:
            reply(request, {"error_code": 40101, "message": "Unauthorized"}, 401)
            return
        connection = http.client.HTTPConnection(behind.hostname or "", behind.port, timeout=20)
        with contextlib.closing(connection):
            kind = {"Content-Type": request.headers.get("Content-Type", "application/json")}
            connection.request(request.command, behind.path + request.path, body, kind)
            answer = connection.getresponse()
            reply(request, answer.read(), answer.status)

    return handle
