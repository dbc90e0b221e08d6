"""An OpenLineage endpoint that keeps what it is sent, and holds it against the classes of OpenLineage's own schema."""

from __future__ import annotations

import enum
import importlib
import json
import pkgutil
import types
import typing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import attr
import openlineage.client.generated
from openlineage.client.generated.base import BaseFacet, RunEvent


class LineageServer(ThreadingHTTPServer):
    """Takes events, or refuses them while `status` is not 201."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.status = 201
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def told(self) -> list[tuple[str, str]]:
        return [(event["eventType"], event["job"]["name"]) for event in self.events]


class _Handler(BaseHTTPRequestHandler):
    server: LineageServer

    def do_POST(self) -> None:
        event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.path == "/api/v1/lineage"
        if self.server.status == 201:
            self.server.events.append(event)
            self.server.keys.append(self.headers.get("Authorization", ""))
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.send_header("Location", self.server.url)
        self.end_headers()

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


def _load_facets() -> dict[str, type]:
    modules = [
        importlib.import_module(f"openlineage.client.generated.{found.name}")
        for found in pkgutil.iter_modules(openlineage.client.generated.__path__)
    ]
    classes = {value for module in modules for value in vars(module).values() if isinstance(value, type)}
    return {kind._get_schema(): kind for kind in classes if issubclass(kind, BaseFacet)}


_FACETS = _load_facets()


def check_event(event: dict[str, Any]) -> None:
    """Fails where the event has a field that OpenLineage does not know, lacks one, or has one of another type."""
    _check(event, RunEvent, "event")


def _check(value: Any, kind: Any, path: str) -> None:
    arguments = typing.get_args(kind)
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        if value is not None:
            _check(value, next(one for one in arguments if one is not type(None)), path)
    elif typing.get_origin(kind) is list:
        for number, item in enumerate(value):
            _check(item, arguments[0], f"{path}[{number}]")
    elif typing.get_origin(kind) is dict:
        for key, item in value.items():
            is_facet = isinstance(arguments[1], type) and issubclass(arguments[1], BaseFacet)
            of = _FACETS[item["_schemaURL"]] if is_facet else arguments[1]
            assert not is_facet or issubclass(of, arguments[1]), f"{path}.{key}"
            _check(item, of, f"{path}.{key}")
    elif attr.has(kind):
        hints = typing.get_type_hints(kind, {**vars(typing), **vars(importlib.import_module(kind.__module__))})
        fields = {field.name: field for field in attr.fields(kind)}
        assert set(value) <= set(fields), path
        required = {name for name, field in fields.items() if field.default is attr.NOTHING}
        assert required <= set(value), path
        for name, item in value.items():
            _check(item, hints[name], f"{path}.{name}")
    elif issubclass(kind, enum.Enum):
        assert value in kind.__members__, path
    else:
        assert isinstance(value, kind), path
