"""Stands between a client and a real S3 server, and answers some requests as a store in trouble does.

It is a process of its own: delta-rs keeps Python's lock while it looks for a table, and a thread could not answer it.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.s3_server import S3Server

_SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
_CONTROL = "/trouble-of-the-test"
_SECONDS = 60.0


@dataclass(frozen=True)
class Trouble:
    """What the store does: it asks for patience in each `refuse_each`th request, and loses the answers to commits.

    An answer to a commit is lost once for each file: the file is there, and the client is told to try again, which a
    conditional put then refuses. 0 and False: no trouble.
    """

    refuse_each: int = 0
    lose_commits: bool = False


@dataclass(frozen=True)
class TroubledStore:
    """The client's side of a store in trouble. `options` are those with which libraries find it."""

    port: int
    options: dict[str, str]

    def begin(self, trouble: Trouble) -> dict[str, int]:
        """Begins this trouble, and ends the one before; returns how many requests were passed, refused and lost."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{_CONTROL}", json.dumps(asdict(trouble)).encode(), method="PUT"
        )
        with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
            found: dict[str, int] = json.load(answer)
        return found


@contextmanager
def troubled(server: S3Server) -> Iterator[TroubledStore]:
    """A store in trouble for the block; at first it has none."""
    command = [sys.executable, "-m", "tests.s3_faults", str(server.ports["s3.port"])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1]) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            yield TroubledStore(port, {**server.options, "aws_endpoint_url": f"http://127.0.0.1:{port}"})
        finally:
            process.kill()


class _Judge:
    def __init__(self) -> None:
        self._trouble = Trouble()
        self._seen: Counter[str] = Counter()
        self._lost: set[str] = set()
        self._lock = threading.Lock()

    def begin(self, trouble: Trouble) -> dict[str, int]:
        with self._lock:
            self._trouble = trouble
            return dict(self._seen)

    def judge(self, method: str, path: str, is_conditional: bool) -> str:
        with self._lock:
            verdict = "passed"
            self._seen["all"] += 1
            if self._trouble.lose_commits and method == "PUT" and is_conditional and path not in self._lost:
                self._lost.add(path)
                verdict = "lost"
            elif self._trouble.refuse_each and self._seen["all"] % self._trouble.refuse_each == 0:
                verdict = "refused"
            self._seen[verdict] += 1
            return verdict


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_port: int
    judge = _Judge()

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: there are thousands of requests."""

    def _answer(self) -> None:
        body = b"".join(self._read_body())
        if self.path == _CONTROL:
            self._send(200, [], json.dumps(self.judge.begin(Trouble(**json.loads(body)))).encode())
            return
        verdict = self.judge.judge(self.command, self.path, "If-None-Match" in self.headers)
        if verdict != "refused":
            answer = _forward(self.server_port, self.command, self.path, self.headers.items(), body)
        if verdict != "passed":
            answer = 503, [("Content-Type", "application/xml")], _SLOW_DOWN
        self._send(*answer)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _answer  # noqa: N815

    def _read_body(self) -> Iterator[bytes]:
        """Reads the body as it came: in chunks, with their lengths, or of a length that is known."""
        if "Transfer-Encoding" not in self.headers:
            yield self.rfile.read(int(self.headers.get("Content-Length", 0)))
            return
        length = -1
        while length:
            line = self.rfile.readline()
            length = int(line.partition(b";")[0], 16)
            yield line + self.rfile.read(length + len(b"\r\n"))

    def _send(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self.send_response_only(status)
        length = str(len(content))
        for name, value in headers:
            if name.lower() == "content-length" and self.command == "HEAD":
                length = value
            elif name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else content)


def _forward(
    port: int, method: str, path: str, headers: Iterable[tuple[str, str]], body: bytes
) -> tuple[int, list[tuple[str, str]], bytes]:
    """Sends the request as it came, for its signature names the host that the client asked."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_SECONDS)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers:
            if name.lower() not in ("connection", "expect"):
                connection.putheader(name, value)
        connection.endheaders(body)
        response = connection.getresponse()
        return response.status, response.getheaders(), response.read()
    finally:
        connection.close()


def main() -> None:
    """Serves until it is killed; prints its port."""
    _Handler.server_port = int(sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
