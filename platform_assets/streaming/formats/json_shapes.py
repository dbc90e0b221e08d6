"""The shape that a JSON Schema says of its values. What it does not say is a value of any type."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import jsonschema_rs

from platform_assets.streaming.formats.json_documents import Documents, JsonSchema
from platform_assets.streaming.formats.json_parts import Gathered, Outer, Part, References, add_conditional, find_types
from platform_assets.streaming.formats.json_scalars import NOT_FINITE, read_number, read_options, read_text, read_whole
from platform_assets.streaming.formats.reader import SchemaError
from platform_assets.streaming.formats.shape_budget import ShapeBudget, build_within
from platform_assets.streaming.formats.shapes import Member, Shape, union_of

_ANY = Shape("any")
_NUMBER, _NO_NUMBER = Shape("number"), Shape("enum", symbols=NOT_FINITE)
_DOUBLE = {_NUMBER, _NO_NUMBER}
# The way to a value has a step for each name and each reference: about four for a record in a record.
_STEPS = 4
# Words that say nothing of what a value is, other than which members it has to have.
_NO_TYPE = {"required", "not", "description", "title", "$comment", "minProperties", "maxProperties"}


def read_json_shape(documents: Documents) -> Shape:
    """The shape of a schema's values. Raises `SchemaError` for a reference that leads nowhere."""
    main, draft, resolver = documents.main, documents.draft, documents.registry.resolver(documents.base_uri)
    references = References(documents)
    try:
        return build_within(
            lambda budget: _Shapes(references, budget).read(main, resolver, draft, (resolver.base_uri,))
        )
    except RecursionError:
        raise SchemaError("the schema is nested too deeply") from None


class _Shapes:
    """Reads shapes with one budget."""

    def __init__(self, references: References, budget: ShapeBudget) -> None:
        self._references, self._budget = references, budget

    def read(self, schema: JsonSchema, resolver: jsonschema_rs.Resolver, draft: int, outer: Outer) -> Shape:
        return self._read_parts(Gathered(self._references, outer).add(schema, resolver, draft))

    def _read_parts(self, found: Gathered) -> Shape:
        self._budget.take()
        if found.recursive is not None:
            return found.recursive
        if len(found.outer) > self._budget.depth * _STEPS:
            return _ANY
        for number, part in enumerate(found.parts):
            for keyword in ("oneOf", "anyOf"):
                branches = part.schema.get(keyword)
                if isinstance(branches, list) and any(map(_says_type, branches)):
                    return self._read_branches(found, number, keyword, branches)
        if (options := read_options([part.schema for part in found.parts])) is not None:
            return options
        types = find_types(found.parts)
        return _ANY if types is None else _unite(self._read_type(each, found) for each in types)

    def _read_branches(self, found: Gathered, number: int, keyword: str, branches: Sequence[JsonSchema]) -> Shape:
        """Each branch with all that holds besides."""
        part = found.parts[number]
        rest = {name: value for name, value in part.schema.items() if name != keyword}
        parts = [*found.parts[:number], Part(rest, part.resolver, part.draft), *found.parts[number + 1 :]]

        def read_branch(branch: JsonSchema) -> Shape:
            inner = Gathered(self._references, found.outer, parts)
            return self._read_parts(inner.add(branch, part.resolver, part.draft))

        return _unite(read_branch(branch) for branch in branches if branch is not False)

    def _read_type(self, name: str, found: Gathered) -> Shape:
        schemas = [part.schema for part in found.parts]
        match name:
            case "null":
                return Shape("null")
            case "boolean":
                return Shape("bool")
            case "integer":
                return read_whole(schemas)
            case "number":
                return read_number(schemas)
            case "string":
                return read_text(schemas)
            case "array":
                return self._read_array(found)
        return self._read_object(found)

    def _read_array(self, found: Gathered) -> Shape:
        """A list; of several types where the schema says the items by place."""
        shapes: list[Shape] = []
        for part in found.parts:
            items = part.schema.get("items")
            places = items if isinstance(items, list) else part.schema.get("prefixItems")
            rest = part.schema.get("additionalItems") if isinstance(items, list) else items
            for each in [*(places if isinstance(places, list) else []), rest]:
                if isinstance(each, dict) or each is True:
                    shapes.append(self.read(each, part.resolver, part.draft, (*found.outer, "[]")))
        return Shape("list", item=_unite(shapes) if shapes else _ANY)

    def _read_object(self, found: Gathered) -> Shape:
        required = {name for part in found.parts for name in part.read_texts("required")}
        declared: dict[str, Gathered] = {}
        never: set[str] = set()
        for part, is_sure in add_conditional(found.parts):
            for name, schema in part.read_schemas("properties").items():
                if schema is False and is_sure:
                    never.add(name)
                elif is_sure or name not in declared:
                    gathered = declared.setdefault(name, Gathered(self._references, (*found.outer, f".{name}")))
                    gathered.add(schema, part.resolver, part.draft)
        for name in sorted(required - declared.keys()):
            declared[name] = Gathered(self._references, found.outer)
        members = tuple(
            Member(name, self._read_parts(each), name not in required, each.description)
            for name, each in declared.items()
            if name not in never
        )
        if not members:
            return self._read_map(found)
        is_open = all(part.schema.get("additionalProperties") is not False for part in found.parts)
        return Shape("record", name=found.title, members=members, is_open=is_open)

    def _read_map(self, found: Gathered) -> Shape:
        """An object with keys of any name. One of which nothing is said is any value: it may be a record."""
        shapes: list[Shape] = []
        for part in found.parts:
            for each in [*part.read_schemas("patternProperties").values(), part.schema.get("additionalProperties")]:
                if isinstance(each, dict):
                    shapes.append(self.read(each, part.resolver, part.draft, (*found.outer, "{}")))
        return Shape("map", item=_unite(shapes)) if shapes else _ANY


def _says_type(branch: Any) -> bool:
    """Whether a branch says what a value is; one that only requires members does not."""
    return isinstance(branch, dict) and bool(branch.keys() - _NO_TYPE)


def _unite(shapes: Iterable[Shape]) -> Shape:
    """The union of shapes, each once; null where no value is allowed.

    A number, or one of the texts that stand for NaN and the infinities, is a double.
    """
    found: dict[Shape, None] = {}
    for each in shapes:
        found |= dict.fromkeys(each.branches if each.kind == "union" else (each,))
    if found.keys() >= _DOUBLE:
        found = dict.fromkeys(Shape("float") if each == _NUMBER else each for each in found if each != _NO_NUMBER)
    return union_of(*found) if found else Shape("null")
