"""All that a JSON Schema says of one value: the schema itself, what it refers to, and what `allOf` adds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import jsonschema_rs

from platform_assets.streaming.formats.json_documents import Documents, JsonSchema, is_old, join_uris, say_shortly
from platform_assets.streaming.formats.reader import SchemaError
from platform_assets.streaming.formats.shapes import Shape

_TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")
# Which type a schema means that says no type, by what else it says: strictly it allows all other types too.
_HINTS: Mapping[str, Sequence[str]] = {
    "object": ("properties", "required", "additionalProperties", "patternProperties", "minProperties"),
    "array": ("items", "prefixItems", "minItems", "maxItems", "uniqueItems"),
    "string": ("pattern", "format", "minLength", "maxLength", "contentEncoding"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}

Outer: TypeAlias = tuple[str, ...]


@dataclass(frozen=True)
class Part:
    """A schema that holds for a value, and where its references are looked up. Several parts hold together."""

    schema: Mapping[str, Any]
    resolver: jsonschema_rs.Resolver
    draft: int

    def read_texts(self, keyword: str) -> list[str]:
        """The texts of a list; none where the keyword is missing."""
        found = self.schema.get(keyword)
        return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []

    def read_schemas(self, keyword: str) -> Mapping[str, Any]:
        """Schemas by name; none where the keyword is missing."""
        found = self.schema.get(keyword)
        return found if isinstance(found, dict) else {}


class References:
    """Looks up references, each once: a document is converted anew by each look-up in the library."""

    def __init__(self, documents: Documents) -> None:
        self._registry = documents.registry
        self._found: dict[tuple[str, str], jsonschema_rs.Resolved] = {}

    def enter(self, schema: Mapping[str, Any], resolver: jsonschema_rs.Resolver) -> jsonschema_rs.Resolver:
        """The resolver for a schema, which may have an identifier of its own."""
        own = schema.get("$id")
        if not isinstance(own, str) or own.startswith("#"):
            return resolver
        return self._registry.resolver(join_uris(resolver.base_uri, own))

    def follow(self, reference: str, resolver: jsonschema_rs.Resolver) -> jsonschema_rs.Resolved:
        """What a reference leads to. Raises `SchemaError` where it leads nowhere."""
        key = (resolver.base_uri, reference)
        if (known := self._found.get(key)) is not None:
            return known
        try:
            found = self._found[key] = resolver.lookup(reference)
        except (jsonschema_rs.ReferencingError, ValueError) as error:
            raise SchemaError(f"the reference {reference!r} leads nowhere: {say_shortly(error)}") from None
        return found


class Gathered:
    """The parts that hold for one value.

    `outer` is the way to the value, with the references on it; `recursive` is the shape of a value that holds itself.
    """

    def __init__(self, references: References, outer: Outer, parts: Sequence[Part] = ()) -> None:
        self.outer = outer
        self.parts = list(parts)
        self.recursive: Shape | None = None
        self._references = references

    @property
    def description(self) -> str:
        """What the schema says for people."""
        said = (part.schema.get("description") for part in self.parts)
        return next((" ".join(each.split()) for each in said if isinstance(each, str)), "")

    @property
    def title(self) -> str:
        """The schema's name for people."""
        return next((each for part in self.parts if isinstance(each := part.schema.get("title"), str)), "")

    def add(self, schema: JsonSchema, resolver: jsonschema_rs.Resolver, draft: int) -> Gathered:
        """Adds a schema and all that it adds; returns itself. Raises `SchemaError` as `References` does."""
        if not isinstance(schema, dict):
            return self
        resolver = self._references.enter(schema, resolver)
        said = [schema[key] for key in ("$ref", "$recursiveRef", "$dynamicRef") if isinstance(schema.get(key), str)]
        if not said or not is_old(draft):
            self.parts.append(Part(schema, resolver, draft))
            all_of = schema.get("allOf")
            for each in all_of if isinstance(all_of, list) else []:
                self.add(each, resolver, draft)
        for reference in said:
            self._follow(reference, resolver)
        return self

    def _follow(self, reference: str, resolver: jsonschema_rs.Resolver) -> None:
        found = self._references.follow(reference, resolver)
        place = join_uris(resolver.base_uri, reference)
        contents: Any = found.contents
        if place in self.outer:
            part = [Part(contents, found.resolver, found.draft)] if isinstance(contents, dict) else []
            kind = "record" if "object" in (find_types(part) or ()) else "any"
            self.recursive = Shape(kind, name=reference, is_recursive=True)  # type: ignore[arg-type]
            return
        self.outer = (*self.outer, place)
        self.add(contents, found.resolver, found.draft)


def find_types(parts: Sequence[Part]) -> list[str] | None:
    """The types that all parts allow; None where nothing is said."""
    allowed: set[str] | None = None
    for part in parts:
        said = part.schema.get("type")
        names = {said} if isinstance(said, str) else set(part.read_texts("type"))
        if not names:
            continue
        # A whole number is a number.
        names |= {"integer"} if "number" in names else set()
        allowed = names if allowed is None else allowed & names
    if allowed is not None:
        return [name for name in _TYPES if name in allowed and not (name == "integer" and "number" in allowed)]
    hinted = (name for name, hints in _HINTS.items() if any(hint in part.schema for part in parts for hint in hints))
    return next(([name] for name in hinted), None)


def add_conditional(parts: Sequence[Part]) -> Iterator[tuple[Part, bool]]:
    """The parts, and behind them those that hold in some cases only, with whether a part always holds."""
    yield from ((part, True) for part in parts)
    for part in parts:
        dependent = [*part.read_schemas("dependentSchemas").values(), *part.read_schemas("dependencies").values()]
        for each in (part.schema.get("then"), part.schema.get("else"), *dependent):
            if isinstance(each, dict):
                yield Part(each, part.resolver, part.draft), False
