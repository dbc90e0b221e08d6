"""The change events of accounts (`tests.accounts`) as Avro, by schemas as Debezium registers them."""

from __future__ import annotations

import dataclasses
import io
import json
from decimal import Decimal
from typing import Any

import fastavro

from platform_assets.streaming.formats.frame import frame
from tests.accounts import Sent

KEY = {"type": "record", "name": "Key", "fields": [{"name": "id", "type": "long"}]}
_DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}
_DATE = {"type": "int", "connect.name": "io.debezium.time.Date"}
_ROW = {
    "type": "record", "name": "Value", "fields": [
        {"name": "id", "type": "long"}, {"name": "balance", "type": ["null", _DECIMAL], "default": None},
        {"name": "name", "type": ["null", "string"], "default": None},
        {"name": "opened_on", "type": ["null", _DATE], "default": None},
        {"name": "tags", "type": ["null", {"type": "array", "items": "string"}], "default": None},
    ],
}  # fmt: skip
_SOURCE = {
    "type": "record", "name": "Source", "fields": [
        *({"name": name, "type": "string"} for name in ("version", "connector", "snapshot", "schema", "table")),
        {"name": "ts_ms", "type": "long"}, {"name": "lsn", "type": ["null", "long"], "default": None},
    ],
}  # fmt: skip
ENVELOPE = {
    "type": "record", "name": "Envelope", "namespace": "shop.public.accounts", "fields": [
        {"name": "before", "type": ["null", _ROW], "default": None},
        {"name": "after", "type": ["null", "Value"], "default": None},
        {"name": "source", "type": _SOURCE}, {"name": "op", "type": "string"},
        {"name": "ts_ms", "type": ["null", "long"], "default": None},
    ],
}  # fmt: skip


def write(schema: Any, schema_id: int, document: Any) -> bytes:
    """The document in a registry's frame."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), document)
    return frame(schema_id, out.getvalue())


def as_avro(sent: Sent, key_id: int, value_id: int) -> Sent:
    """The same record, by these schemas. Its value has no wrapper."""
    key = write(KEY, key_id, json.loads(sent.key))
    if sent.value is None:
        return dataclasses.replace(sent, key=key)
    event = json.loads(sent.value)
    for row in (event["before"], event["after"]):
        if row is not None and row.get("balance") is not None:
            row["balance"] = Decimal(row["balance"])
    return dataclasses.replace(sent, key=key, value=write(ENVELOPE, value_id, event))
