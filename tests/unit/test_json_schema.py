"""JSON Schemas of a registry: the shapes of their values, by all drafts, and which of them are refused."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.streaming.formats.json_schema import JsonSchemaReader, read_json_schema
from platform_assets.streaming.formats.reader import SchemaError, UndecodableError
from platform_assets.streaming.formats.registered_schema import NamedSchema, RegisteredSchema
from platform_assets.streaming.formats.shapes import Shape

DRAFT_4 = "http://json-schema.org/draft-04/schema#"
LATEST = "https://json-schema.org/draft/2020-12/schema"


def read(document: Any, **references: Any) -> JsonSchemaReader:
    text = document if isinstance(document, str) else json.dumps(document)
    named = tuple(NamedSchema(name, json.dumps(each)) for name, each in references.items())
    return read_json_schema(RegisteredSchema(1, "json", text, named))


def say(shape: Shape) -> str:
    """A shape in one line: `{id: text, at?: timestamp}`."""
    match shape.kind:
        case "record" if not shape.is_recursive:
            members = (f"{each.name}{'?' * each.may_be_absent}: {say(each.shape)}" for each in shape.members)
            return f"{{{', '.join(members)}}}"
        case "union":
            return "|".join(map(say, shape.branches))
        case "list" | "map" if shape.item is not None:
            return f"{shape.kind}<{say(shape.item)}>"
        case "int":
            return f"int{shape.bits}"
        case "number" if shape.digits:
            return f"number{shape.digits}"
        case "enum":
            return f"[{' '.join(shape.symbols)}]"
    return f"{'itself:' * shape.is_recursive}{shape.kind}"


def say_member(schema: Any, **references: Any) -> str:
    """The shape of a member that has this schema."""
    found = say(read({"type": "object", "required": ["a"], "properties": {"a": schema}}, **references).shape)
    assert found.startswith("{a: ")
    return found[4:-1]


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "string"}, "text"),
        ({"type": ["null", "string"]}, "null|text"),
        ({"type": "boolean"}, "bool"),
        ({"type": "integer"}, "int64"),
        ({"type": "integer", "minimum": 0, "maximum": 100}, "int32"),
        ({"type": "integer", "minimum": 0, "maximum": 2**64 - 1}, "int65"),
        ({"type": "integer", "minimum": -(2**31), "exclusiveMaximum": 2**31 - 1}, "int32"),
        ({"type": "number"}, "number"),
        ({"type": "number", "multipleOf": 0.01}, "number"),
        ({"type": "number", "multipleOf": 0.01, "minimum": 0, "maximum": 99999.99}, "number(7, 2)"),
        ({"type": "number", "multipleOf": 1}, "int64"),
        ({"type": ["integer", "number"]}, "number"),
        ({"type": "string", "format": "date"}, "date"),
        ({"type": "string", "format": "date-time"}, "timestamp"),
        ({"type": "string", "format": "time"}, "time"),
        ({"type": "string", "format": "uuid"}, "uuid"),
        ({"type": "string", "format": "duration"}, "duration"),
        ({"type": "string", "format": "email"}, "text"),
        ({"format": "date-time"}, "timestamp"),
        ({"type": "string", "contentEncoding": "base64"}, "bytes"),
        ({"enum": ["a", "b", "a"]}, "[a b]"),
        ({"enum": ["a", None]}, "null|[a]"),
        ({"enum": [1, 2]}, "int32"),
        ({"enum": [1, 2.5, True]}, "bool|number"),
        ({"enum": [{}, "a"]}, "any"),
        ({"const": "a"}, "[a]"),
        ({"const": None}, "null"),
        ({"type": "string", "enum": ["a", "b"], "const": "a"}, "[a]"),
        ({"type": "array"}, "list<any>"),
        ({"type": "array", "items": {"type": "string"}}, "list<text>"),
        ({"type": "array", "items": [{"type": "string"}, {"type": "null"}]}, "list<text|null>"),
        ({"items": {"type": "string"}}, "list<text>"),
        ({"type": "object"}, "any"),
        ({"type": "object", "additionalProperties": {"type": "boolean"}}, "map<bool>"),
        ({"type": "object", "patternProperties": {"^x": {"type": "integer"}}}, "map<int64>"),
        ({"properties": {"b": {}, "never": False}}, "{b?: any}"),
        ({"type": "object", "required": ["b"]}, "{b: any}"),
        ({}, "any"),
        (True, "any"),
        ({"oneOf": [{"type": "null"}, {"type": "string", "format": "date-time"}]}, "null|timestamp"),
        ({"anyOf": [{"type": "string"}, {"type": "string"}, {"type": "integer"}]}, "text|int64"),
        ({"anyOf": [{"required": ["b"]}, {"required": ["c"]}], "properties": {"b": {}, "c": {}}}, "{b?: any, c?: any}"),
        ({"allOf": [{"properties": {"b": {"type": "string"}}}, {"required": ["b"]}]}, "{b: text}"),
        ({"allOf": [{"type": ["string", "null"]}, {"type": ["string", "integer"]}]}, "text"),
        ({"allOf": [{"type": "number"}, {"type": "integer"}]}, "int64"),
        (
            {"type": "object", "properties": {"b": {}}, "then": {"properties": {"c": {"type": "string"}}}, "if": True},
            "{b?: any, c?: text}",
        ),
        ({"type": "object", "allOf": [{"anyOf": [{"type": "null"}, {"type": "object"}]}]}, "null|any"),
    ],
)
def test_shapes(schema: Any, said: str) -> None:
    assert say_member(schema) == said


@pytest.mark.parametrize("definitions", ["definitions", "$defs"])
@pytest.mark.parametrize("draft", [DRAFT_4, "http://json-schema.org/draft-07/schema#", LATEST, None])
def test_references_within(definitions: str, draft: str | None) -> None:
    document = {
        "type": "object",
        "properties": {
            "a": {"$ref": f"#/{definitions}/A"},
            "self": {"$ref": "#"},
            "tree": {"$ref": f"#/{definitions}/T"},
        },
        definitions: {
            "A": {"type": "string"},
            "T": {"type": "object", "properties": {"kids": {"type": "array", "items": {"$ref": f"#/{definitions}/T"}}}},
        },
    } | ({"$schema": draft} if draft else {})
    assert say(read(document).shape) == "{a?: text, self?: itself:record, tree?: {kids?: list<itself:record>}}"


def test_what_stands_next_to_a_reference_counts_since_2019() -> None:
    definitions = {"A": {"type": "string"}}
    member = {"$ref": "#/definitions/A", "format": "date"}
    for draft, said in ((DRAFT_4, "text"), (LATEST, "date")):
        found = read({"$schema": draft, "properties": {"a": member}, "definitions": definitions})
        assert say(found.shape) == f"{{a?: {said}}}"


@pytest.mark.parametrize("identifier", [None, "http://example.com/schemas/order.json", "order.json"])
@pytest.mark.parametrize("name", ["address.json", "http://example.com/schemas/address.json"])
def test_references_to_other_documents(identifier: str | None, name: str) -> None:
    address = {"type": "object", "properties": {"city": {"$ref": "#/definitions/city"}, "of": {"$ref": "country.json"}},
               "definitions": {"city": {"type": "string"}}}  # fmt: skip
    country = {"$schema": LATEST, "enum": ["de", "fr"]}
    reference = name if identifier is None or not name.startswith("http") else "address.json"
    reference = name if identifier == "order.json" else reference
    document = {"properties": {"a": {"$ref": f"{reference}#"}}} | ({"$id": identifier} if identifier else {})
    found = read(document, **{name.replace("address", "country"): country, name: address})
    assert say(found.shape) == "{a?: {city?: text, of?: [de fr]}}"
    found.validate(b'{"a": {"city": "x", "of": "de"}}')
    with pytest.raises(UndecodableError, match=r"a\.of"):
        found.validate(b'{"a": {"of": "xx"}}')


def test_anchors_and_prefix_items() -> None:
    document = {
        "$schema": LATEST, "$id": "http://example.com/x", "$defs": {"s": {"$anchor": "here", "type": "string"}},
        "properties": {"a": {"$ref": "#here"}, "b": {"prefixItems": [{"type": "integer"}], "items": False}},
    }  # fmt: skip
    assert say(read(document).shape) == "{a?: text, b?: list<int64>}"


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("{", "the schema is no JSON"),
        ("[]", "no JSON object"),
        ('{"minimum": NaN}', "NaN is not JSON"),
        ("[" * 100_000, "the schema is no JSON"),
        ({"type": "nonsense"}, "cannot be used"),
        ({"$schema": "http://example.com/own"}, "dialect"),
        ({"$ref": "#/definitions/missing"}, "missing"),
        ({"properties": {"a": {"$ref": "other.json"}}}, "refers to what is not there.*other.json"),
        ({"$id": "http://["}, "is no URI"),
        ({"properties": {"a": {"$id": "http://["}}}, "."),
        ({"$ref": "file:///etc/passwd"}, "refers to what is not there"),
        ({"properties": {"a": {"pattern": "("}}}, "regex"),
        ({"properties": {"a": {"pattern": "(a{1000}){1000}"}}}, "regex"),
    ],
)
def test_broken_schemas_are_refused_in_words(document: Any, said: str) -> None:
    with pytest.raises(SchemaError, match=said):
        read(document)


def test_nothing_is_fetched() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        with pytest.raises(SchemaError, match="not among the schema's references"):
            read({"$ref": f"http://127.0.0.1:{server.getsockname()[1]}/schema.json"})
        with pytest.raises(TimeoutError):
            server.accept()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b'{"n": 101}', "n: 101 is greater"),
        (b'{"n": 1, "n": 101}', "n: 101 is greater"),
        (b'{"n": 123456789012345678901234567890}', "n: 123456789012345678901234567890 is greater"),
        (b'{"n": "1"}', 'n: "1" is not of type "integer"'),
        (b'{"n": 1.5}', "n: 1.5 is not of type"),
        (b"{}", '"n" is a required property'),
        (b'{"n": 1, "items": [{"p": 0.07}, {"p": 0.071}]}', r"items\[1\]\.p: 0.071 is not a multiple"),
        (b'{"n": 1, "e": "c"}', "e: "),
        (b'{"n": 1, "w": "aaaa!"}', "w: "),
        (b'{"n": 1e400}', "no JSON"),
        (b'{"n": 1', "no JSON"),
        (b'{"n": NaN}', "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"", "no JSON"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_values_that_their_schema_forbids(value: bytes, said: str) -> None:
    with pytest.raises(UndecodableError, match=said):
        read(JUDGED).validate(value)


JUDGED = {
    "type": "object",
    "required": ["n"],
    "properties": {
        "n": {"type": "integer", "maximum": 100},
        "items": {"type": "array", "items": {"properties": {"p": {"type": "number", "multipleOf": 0.01}}}},
        "e": {"enum": ["a", "b"]},
        "w": {"type": "string", "pattern": "^(a+)+$"},
        "at": {"type": "string", "format": "date-time"},
    },
}


@pytest.mark.parametrize("value", [b'{"n": 1}', b'{"n": 1.0}', b'{"n": -5, "at": "no time"}', b'{"n": 1, "more": []}'])
def test_values_that_their_schema_allows(value: bytes) -> None:
    read(JUDGED).validate(value)


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(?=a)(a+)+$", "^(a|aa)+(?<!b)$", "(x+x+)+y", "^(?!b)(a*)*$"])
def test_a_pattern_that_goes_back_and_forth_takes_no_time(pattern: str) -> None:
    """The first of them would take longer than the universe is old, in an engine that tries all ways."""
    found = read({"properties": {"a": {"pattern": pattern}}})
    value = json.dumps({"a": "a" * 5_000 + "!" + "x" * 5_000}).encode()
    with pytest.raises(UndecodableError):
        found.validate(value)


def test_types_that_all_hold_each_other_have_a_shape_that_ends() -> None:
    names = [f"T{number}" for number in range(12)]
    types = {
        name: {"type": "object", "properties": {each: {"$ref": f"#/definitions/{each}"} for each in names}}
        for name in names
    }
    shape = read({"$ref": "#/definitions/T0", "definitions": types}).shape
    assert 12 < sum(1 for _ in shape.walk()) < 50_000
    branches: list[Any] = [{"anyOf": [{"properties": {f"a{n}": {}}}, {"properties": {f"b{n}": {}}}]} for n in range(30)]
    assert read({"allOf": branches}).shape.kind == "any"


def test_references_that_lead_to_themselves() -> None:
    assert read({"$ref": "#"}).shape.is_recursive
    found = read({"properties": {"a": {"$ref": "#/properties/a"}}})
    assert say(found.shape) == "{a?: itself:any}"
    found.validate(b'{"a": 1}')


def test_a_value_is_read_with_all_its_digits() -> None:
    found = read({}).read(b'{"a": 0.10, "b": 123456789012345678901234567890, "c": 1e400, "d": [null, true, "x"]}')
    assert found == {
        "a": Decimal("0.10"), "b": 123456789012345678901234567890, "c": Decimal("1e400"), "d": [None, True, "x"],
    }  # fmt: skip
    assert str(found["a"]) == "0.10"
    for broken in (b"[]", b"{", b"\xff", b"[" * 100_000, b"", b'{"a": NaN}'):
        with pytest.raises(UndecodableError):
            read({}).read(broken)


_WORDS = st.sampled_from(
    ["type", "properties", "items", "enum", "const", "allOf", "anyOf", "$ref", "$id", "id", "required", "pattern",
     "multipleOf", "minimum", "maximum", "format", "additionalProperties", "prefixItems", "$schema", "definitions",
     "$defs", "not", "if", "then", "dependentSchemas", "$dynamicRef", "$anchor", "contentEncoding", "title", "a"]
)  # fmt: skip
_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _WORDS
    | st.sampled_from(["#", "#/a", "#/properties/a", "x.json", "http://[", "%", "string", "object", "integer"])
    | st.sampled_from(["", LATEST, "(", "#a"])
    | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS, inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(_ANYTHING, st.dictionaries(_WORDS, _ANYTHING, max_size=2))
def test_any_document_is_a_schema_or_is_refused(document: Any, value: Any) -> None:
    try:
        found = read(json.dumps(document))
    except SchemaError as error:
        assert str(error)
        return
    assert found.shape.say()
    try:
        found.validate(json.dumps(value).encode())
    except UndecodableError as error:
        assert str(error)


_LEAVES = st.sampled_from(
    [
        {"type": "string"}, {"type": "integer"}, {"type": "number"}, {"type": "boolean"}, {"type": "null"}, {},
        {"enum": ["a", 1, None]}, {"type": ["string", "null"]}, {"const": 2.5}, {"$ref": "#"},
        {"type": "integer", "minimum": 0, "maximum": 9},
    ]
)  # fmt: skip


def _deepen(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    objects = st.dictionaries(st.sampled_from("abc"), inner, max_size=3).map(
        lambda found: {"type": "object", "properties": found, "required": sorted(found)[:1]}
    )
    lists = inner.map(lambda item: {"type": "array", "items": item})
    maps = inner.map(lambda item: {"type": "object", "additionalProperties": item})
    several = st.tuples(st.sampled_from(["anyOf", "oneOf", "allOf"]), st.lists(inner, min_size=1, max_size=3))
    return objects | lists | maps | several.map(lambda found: {found[0]: found[1]})


SCHEMAS = st.recursive(_LEAVES, _deepen, max_leaves=8).map(lambda inner: {"type": "object", "properties": {"a": inner}})
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 12) | st.sampled_from(["a", "b", 2.5]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
    max_leaves=6,
)


def holds(shape: Shape, value: Any) -> bool:
    """Whether a value is one of a shape."""
    match shape.kind:
        case "any":
            return True
        case "union":
            return any(holds(each, value) for each in shape.branches)
        case "null":
            return value is None
        case "bool":
            return isinstance(value, bool)
        case "int" | "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "text":
            return isinstance(value, str)
        case "enum":
            return value in shape.symbols
        case "list" if shape.item is not None:
            item = shape.item
            return isinstance(value, list) and all(holds(item, each) for each in value)
        case "map" if shape.item is not None:
            item = shape.item
            return isinstance(value, dict) and all(holds(item, each) for each in value.values())
    if shape.is_recursive:
        return isinstance(value, dict)
    found: Mapping[str, Shape] = {each.name: each.shape for each in shape.members}
    required = {each.name for each in shape.members if not each.may_be_absent}
    return (
        isinstance(value, dict)
        and required <= value.keys()
        and all(holds(found[name], each) for name, each in value.items() if name in found)
    )


@given(SCHEMAS, st.dictionaries(st.just("a"), VALUES))
def test_the_shape_has_room_for_each_value_that_the_schema_allows(schema: Any, value: Any) -> None:
    """The oracle is the validator: it knows the whole language, and the shape may only be wider."""
    found = read(schema)
    try:
        found.validate(json.dumps(value).encode())
    except UndecodableError:
        return
    assert holds(found.shape, value), say(found.shape)
