"""What records with random schema ids cost: a parsed batch of 5,000, each with an id that the registry does not have.

The registry is a server on this machine that knows no id. A batch is parsed as a task does it, and once more with each
id asked for, as it was before requests were bounded. CPU-seconds are those of the thread that parses, without the
server's. Run: `make bench ARGS=unknown_schemas` (some seconds).
"""

from __future__ import annotations

import http.server
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime

import pyarrow as pa

from platform_assets.streaming.event_rules import EventRules
from platform_assets.streaming.formats.frame import frame
from platform_assets.streaming.formats.registered_schema import SchemaSource
from platform_assets.streaming.ingest.record_parser import parse_batch
from platform_assets.streaming.topic_spec import RegistryValues
from platform_assets.topics.events import TOPIC
from resources.registry.access import RegistryAccess
from resources.registry.schema_registry import SchemaRegistry

_RECORDS = 5_000


class _Nothing(http.server.BaseHTTPRequestHandler):
    """A registry that has no schema."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    asked = 0

    def do_GET(self) -> None:
        """Answers as Confluent's registry does."""
        _Nothing.asked += 1
        body = b'{"error_code": 40403, "message": "Schema not found"}'
        self.send_response(404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


def main() -> None:
    """Prints requests and CPU-seconds of both."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Nothing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    registry = SchemaRegistry(RegistryAccess((f"http://127.0.0.1:{server.server_port}",)))
    bounded = SchemaSource(registry)
    _parse(replace(bounded, unresolved=frozenset(range(_RECORDS))), 0)  # imports and compiles
    for name, source, first in (("bounded", bounded, 1), ("each id", replace(bounded, asks_for_all=True), 10**6)):
        _Nothing.asked, began = 0, time.thread_time()
        _parse(source, first)
        print(f"{name}: {_Nothing.asked:,} requests, {time.thread_time() - began:.2f} CPU-s for {_RECORDS:,} records")
    server.shutdown()
    server.server_close()


def _parse(source: SchemaSource, first: int) -> None:
    now = datetime.now(UTC)
    batch = pa.record_batch({
        "key": pa.nulls(_RECORDS, pa.binary()),
        "value": pa.array([frame(first + number, b"x" * 100) for number in range(_RECORDS)], pa.binary()),
        "partition": pa.array([0] * _RECORDS, pa.int32()),
        "offset": pa.array(range(_RECORDS), pa.int64()),
        "timestamp": pa.array([now] * _RECORDS, pa.timestamp("us", tz="UTC")),
    })  # fmt: skip
    topic = replace(TOPIC, values=RegistryValues())
    parse_batch(batch, topic, int(now.timestamp() * 1e6), 1_000_000, EventRules(), source)


if __name__ == "__main__":
    main()
