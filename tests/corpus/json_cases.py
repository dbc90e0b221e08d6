"""JSON Schemas with a document each. What a document means is the document."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class JsonCase:
    """A schema and a document of it."""

    name: str
    schema: dict[str, Any]
    document: dict[str, Any]


_ORDER = {
    "$schema": "http://json-schema.org/draft-07/schema#", "title": "Order", "type": "object",
    "properties": {
        "order_id": {"type": "string"}, "at": {"type": "string", "format": "date-time"}, "cents": {"type": "integer"},
        "ratio": {"type": "number"}, "kind": {"enum": ["sale", "refund"]}, "paid": {"type": "boolean"},
        "note": {"type": ["string", "null"]},
        "lines": {"type": "array", "items": {"type": "object", "properties": {"sku": {"type": "string"}}}},
        "tags": {"type": "object", "additionalProperties": {"type": "string"}},
    },
    "required": ["order_id", "at"],
}  # fmt: skip
CASES = (
    JsonCase("an order", _ORDER, {
        "order_id": "Zürich \U0001f6d2\"\\\n", "at": "2026-01-31T23:59:59.123456Z", "cents": 9223372036854775807,
        "ratio": 0.1, "kind": "sale", "paid": True, "note": None, "lines": [{"sku": "a"}, {}], "tags": {"": "x"}}),
    JsonCase("numbers at their limits", _ORDER, {
        "order_id": "", "at": "0001-01-01T00:00:00Z", "cents": -9223372036854775808, "ratio": -0.25, "lines": [],
        "tags": {}}),
)  # fmt: skip
