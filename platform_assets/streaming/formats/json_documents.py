"""JSON Schemas of a registry as documents: their draft, and what their references lead to. Nothing is ever fetched."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NoReturn, TypeAlias
from urllib.parse import urljoin

import jsonschema_rs

from platform_assets.streaming.formats.reader import SchemaError
from platform_assets.streaming.formats.registered_schema import RegisteredSchema

# Where documents lie that have no identifier of their own; a name that no server can have (RFC 6761).
_BASE = "http://schemas.invalid/"
_MAIN = f"{_BASE}_value_.json"
# The largest schemas that are known have some hundred kilobytes; a text of any size would fill the memory.
_MOST_CHARACTERS = 8_000_000
_DRAFT = re.compile(r"https?://json-schema\.org/(?:draft[-/])?(04|06|07|2019-09|2020-12)/schema#?")
_DRAFTS: Mapping[str, int] = {
    "04": jsonschema_rs.Draft4,
    "06": jsonschema_rs.Draft6,
    "07": jsonschema_rs.Draft7,
    "2019-09": jsonschema_rs.Draft201909,
    "2020-12": jsonschema_rs.Draft202012,
}
_VALIDATORS: Mapping[int, type[jsonschema_rs.Validator]] = {
    jsonschema_rs.Draft4: jsonschema_rs.Draft4Validator,
    jsonschema_rs.Draft6: jsonschema_rs.Draft6Validator,
    jsonschema_rs.Draft7: jsonschema_rs.Draft7Validator,
    jsonschema_rs.Draft201909: jsonschema_rs.Draft201909Validator,
    jsonschema_rs.Draft202012: jsonschema_rs.Draft202012Validator,
}

JsonSchema: TypeAlias = dict[str, Any] | bool


@dataclass(frozen=True)
class Documents:
    """A schema and all that it refers to. `draft` is the schema's own; a reference may have another."""

    main: JsonSchema
    base_uri: str
    draft: int
    registry: jsonschema_rs.Registry

    def build_validator(self, patterns: jsonschema_rs.RegexOptions | jsonschema_rs.FancyRegexOptions) -> Any:
        """The library's validator. Raises `ValueError` for a schema that it does not take."""
        return _VALIDATORS[self.draft](
            self.main,
            registry=self.registry,
            base_uri=self.base_uri,
            pattern_options=patterns,
            # A format is a remark of the writer's: serializers do not check it. The contract has its own types.
            validate_formats=False,
            offline=True,
        )


def read_documents(schema: RegisteredSchema) -> Documents:
    """Reads the texts of a schema and its references.

    Raises `SchemaError` for a text that is no JSON Schema, and for a reference to a document that is not given.
    """
    if len(schema.text) + sum(len(each.text) for each in schema.references) > _MOST_CHARACTERS:
        raise SchemaError(f"the schema has more than {_MOST_CHARACTERS} characters")
    main = _read_text(schema.text, "the schema")
    draft = _find_draft(main, "the schema")
    base_uri = join_uris(_MAIN, _find_id(main))
    found: dict[str, JsonSchema] = {}
    for each in schema.references:
        document = _read_text(each.text, f"the reference {each.name}")
        _find_draft(document, f"the reference {each.name}")
        for uri in _list_uris(each.name, document, base_uri):
            found.setdefault(uri, document)
    found[base_uri] = main
    try:
        registry = jsonschema_rs.Registry(found.items(), draft=draft, retriever=_refuse)
    except (ValueError, TypeError, jsonschema_rs.ReferencingError) as error:
        raise SchemaError(f"the schema refers to what is not there: {say_shortly(error)}") from None
    return Documents(main, base_uri, draft, registry)


def say_shortly(error: Exception) -> str:
    """The first line of what the library says."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def join_uris(base: str, uri: str) -> str:
    """What a URI is where the base holds. Raises `SchemaError` for a text that is none."""
    try:
        return urljoin(base, uri)
    except ValueError:
        raise SchemaError(f"{uri[:200]!r} is no URI") from None


def is_old(draft: int) -> bool:
    """Whether what stands next to a `$ref` is ignored, as up to draft 7."""
    return draft in (jsonschema_rs.Draft4, jsonschema_rs.Draft6, jsonschema_rs.Draft7)


def _read_text(text: str, what: str) -> JsonSchema:
    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not JSON")

    try:
        document = json.loads(text, parse_constant=refuse, parse_float=Decimal)
    except (ValueError, RecursionError) as error:
        raise SchemaError(f"{what} is no JSON: {say_shortly(error)}") from None
    if not isinstance(document, dict | bool):
        raise SchemaError(f"{what} is no JSON object")
    return document


def _find_draft(document: JsonSchema, what: str) -> int:
    """The draft that a schema names; draft 7 where it names none, as registries take it."""
    named = document.get("$schema") if isinstance(document, dict) else None
    if named is None or named in ("http://json-schema.org/schema#", "http://json-schema.org/schema"):
        return jsonschema_rs.Draft7
    matched = _DRAFT.fullmatch(named) if isinstance(named, str) else None
    if matched is None:
        raise SchemaError(f"{what} is of the dialect {str(named)[:100]!r}, which is not known")
    return _DRAFTS[matched[1]]


def _find_id(document: JsonSchema) -> str:
    found = "" if isinstance(document, bool) else document.get("$id", document.get("id", ""))
    return found if isinstance(found, str) and not found.startswith("#") else ""


def _list_uris(name: str, document: JsonSchema, base_uri: str) -> Iterator[str]:
    """The names under which a document is found: what a `$ref` to it becomes depends on where the `$ref` stands."""
    for base in (base_uri, _BASE):
        yield join_uris(base, name)
        if own := _find_id(document):
            yield join_uris(join_uris(base, name), own)


def _refuse(uri: str) -> NoReturn:
    raise LookupError(f"{uri} is not among the schema's references")
