"""JSON values of a schema registry: what their JSON Schema says of them, and whether they are what it says."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import jsonschema_rs
import msgspec

from platform_assets.streaming.formats.json_documents import Documents, read_documents, say_shortly
from platform_assets.streaming.formats.json_shapes import read_json_shape
from platform_assets.streaming.formats.reader import SchemaError, UndecodableError, compiled_once
from platform_assets.streaming.formats.registered_schema import RegisteredSchema
from platform_assets.streaming.formats.shapes import Shape

# A pattern that looks ahead cannot be matched in linear time. Without a limit, a hostile text would take hours; with
# this one, it takes less than a millisecond and is refused.
_BACKTRACK_LIMIT = 10_000
# What a pattern may take when it is compiled: `(a{1000}){1000}` would fill the memory.
_PATTERN_BYTES = 2_000_000

_decode = msgspec.json.Decoder().decode
_decode_exactly = msgspec.json.Decoder(float_hook=Decimal).decode


@dataclass(frozen=True)
class JsonSchemaReader:
    """What one schema says of its values, in this process. Of any thread.

    The value behind the frame is JSON text, and stays as it is: the contract reads it, with each digit that was sent.
    """

    shape: Shape
    _validator: Any

    def read(self, value: bytes) -> dict[str, Any]:
        """The value with all its digits. Raises `UndecodableError` for bytes that are no JSON object."""
        try:
            found = _decode_exactly(value)
        except RecursionError:
            raise UndecodableError("the JSON is nested too deeply") from None
        except (msgspec.MsgspecError, UnicodeError, ArithmeticError) as error:
            raise UndecodableError(f"no JSON: {say_shortly(error)}") from None
        if not isinstance(found, dict):
            raise UndecodableError("the JSON is no object")
        return found

    def validate(self, value: bytes) -> None:
        """Raises `UndecodableError` for bytes that are no JSON, or that the schema forbids, and never anything else.

        Not needed to read values: the contract judges all that it takes. It costs about as much as the contract, so
        that it is off by default; it is for topics whose writers do not validate. Formats are not judged. Of several
        equal keys the last counts, as for the contract. Whole numbers are judged with all their digits, others as the
        double that is next to them; one that no double holds, such as 1e400, is refused. A schema whose parts refer to
        each other in ever more ways takes ever longer: that its author means no harm is taken for granted.
        """
        try:
            document = _decode(value)
            if self._validator.is_valid(document):
                return
            breach = next(iter(self._validator.iter_errors(document)), None)
        except RecursionError:
            raise UndecodableError("the JSON is nested too deeply") from None
        except (msgspec.MsgspecError, UnicodeError) as error:
            raise UndecodableError(f"no JSON: {say_shortly(error)}") from None
        except (ValueError, TypeError) as error:
            raise UndecodableError(f"against its schema: {say_shortly(error)}") from None
        raise UndecodableError(f"against its schema: {_say(breach)}")


@compiled_once
def read_json_schema(schema: RegisteredSchema) -> JsonSchemaReader:
    """The reader of a schema; the same one each time, in this process. Takes some milliseconds the first time.

    Raises `SchemaError` for a text that is no JSON Schema, for a reference that leads nowhere (nothing is fetched), and
    for a pattern that the engine does not have. A refusal is remembered.
    """
    documents = read_documents(schema)
    validator = _build_validator(documents)
    return JsonSchemaReader(read_json_shape(documents), validator)


def _build_validator(documents: Documents) -> Any:
    """Patterns are matched in linear time. A schema with a pattern that looks ahead or back has a limit instead."""
    linear = jsonschema_rs.RegexOptions(size_limit=_PATTERN_BYTES)
    limited = jsonschema_rs.FancyRegexOptions(backtrack_limit=_BACKTRACK_LIMIT, size_limit=_PATTERN_BYTES)
    try:
        return documents.build_validator(linear)
    except (ValueError, TypeError, RecursionError):
        pass
    try:
        return documents.build_validator(limited)
    except (ValueError, TypeError, RecursionError) as error:
        raise SchemaError(f"the schema cannot be used: {say_shortly(error)}") from None


def _say(breach: Any) -> str:
    if breach is None:
        return "it is not valid"
    place = "".join(f"[{each}]" if isinstance(each, int) else f".{each}" for each in breach.instance_path)
    said = say_shortly(breach)
    return f"{place.lstrip('.')[:200]}: {said}" if place else said
