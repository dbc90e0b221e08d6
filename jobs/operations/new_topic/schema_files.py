"""Tells schemas from samples, and reads them: Avro, Protobuf and JSON Schema by a file's name and what is in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from platform_assets.errors import UsageError
from platform_assets.streaming.formats.registered_schema import RegisteredSchema, SchemaFormat

# Registries take less. A larger .json file is one of samples.
_MOST_BYTES = 8 * 1024 * 1024
# No registry has given the schema an id; nothing asks for it.
_NO_ID = 0


def read_schema(path: Path) -> RegisteredSchema | None:
    """The schema of a file; None where it holds samples, or is missing.

    A `.json` file is a schema where it is one JSON object that says `$schema`, or has the words of a schema of objects
    (`type` and `properties`, or Avro's `type` and `fields`). Raises `UsageError` for a schema that is no UTF-8.
    """
    suffix = path.suffix.lower()
    if suffix not in (".avsc", ".proto", ".json") or not path.is_file():
        return None
    if suffix == ".json" and path.stat().st_size > _MOST_BYTES:
        return None
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}). Check the file.") from None
    except UnicodeDecodeError as error:
        if suffix == ".json":
            return None
        raise UsageError(f"{path} is not UTF-8 ({error}). Save it as UTF-8.") from None
    named: dict[str, SchemaFormat] = {".avsc": "avro", ".proto": "protobuf"}
    found = named.get(suffix) or _name_format(text)
    return None if found is None else RegisteredSchema(_NO_ID, found, text)


def _name_format(text: str) -> SchemaFormat | None:
    """The format of a schema in JSON; None for samples."""
    try:
        document: Any = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    if document.get("type") == "record" and isinstance(document.get("fields"), list):
        return "avro"
    is_object = document.get("type") == "object" and isinstance(document.get("properties"), dict)
    return "json" if is_object or isinstance(document.get("$schema"), str) else None
