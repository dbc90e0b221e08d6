"""Rows of tables as Avro, Protobuf and JSON by a schema of their columns: what readers find in the bytes is the row.

The oracles are fastavro, Google's runtime with a schema that protoc has compiled here, JSON with a validator, and the
platform's own readers of a registry's schemas.
"""

from __future__ import annotations

import importlib.resources
import io
import json
import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import fastavro
import jsonschema_rs
import msgspec
import pyarrow as pa
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_tools import protoc
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.errors import SettingError
from platform_assets.streaming.delta.delta_tables import build_arrow_schema
from platform_assets.streaming.derive.published_values import FramedWriter, PublishedValues
from platform_assets.streaming.formats.protobuf_builtin import CONFLUENT_FILES
from platform_assets.streaming.formats.readers import compile_schema
from platform_assets.streaming.formats.registered_schema import RegisteredSchema, SchemaFormat, SchemaTarget
from platform_assets.streaming.formats.table_shape import read_table_shape
from platform_assets.streaming.formats.writers import WrittenSchema, write_schema
from platform_assets.streams.card_holds import STREAM
from platform_assets.tables.spec import Column, TableSpec
from tests.generated_cases import examples

PROTO = """syntax = "proto3";
package gold;

import "confluent/meta.proto";
import "confluent/type/decimal.proto";
import "google/protobuf/timestamp.proto";

message SomeRows {
  // Its id
  string id = 1;
  // When it was
  google.protobuf.Timestamp at = 2;
  // How much
  confluent.type.Decimal amount = 3 [(confluent.field_meta) = {
    params: [{ key: "precision", value: "12" }, { key: "scale", value: "2" }]
  }];
  TagsList tags = 4;
  optional double score = 5;

  message TagsList {
    repeated string items = 1;
    // Places of items that are null: an empty one stands there.
    repeated int32 nulls = 2;
  }
}
"""
FORMATS: tuple[SchemaFormat, ...] = ("avro", "protobuf", "json")
NAMES = ("id", "by", "items", "nulls", "entries", "a_b", "a_b_c", "message", "Kind", "optional")


@dataclass(frozen=True)
class Type:
    """A column's type: its spelling in Spark SQL, and its parts."""

    spelling: str
    kind: str
    parts: tuple[tuple[str, Type], ...] = ()
    digits: tuple[int, int] = (0, 0)


def build_decimal(number: int, scale: int) -> Decimal:
    return Decimal((number < 0, tuple(map(int, str(abs(number)))), -scale))


def decimal_type(digits: tuple[int, int]) -> Type:
    return Type(f"decimal({digits[0]},{digits[1]})", "decimal", digits=digits)


def struct_type(members: dict[str, Type]) -> Type:
    spelling = ",".join(f"{name}:{of.spelling}" for name, of in members.items())
    return Type(f"struct<{spelling}>", "struct", tuple(members.items()))


def wrap(inner: st.SearchStrategy[Type]) -> st.SearchStrategy[Type]:
    return st.one_of(
        inner.map(lambda of: Type(f"array<{of.spelling}>", "array", (("", of),))),
        inner.map(lambda of: Type(f"map<string,{of.spelling}>", "map", (("", of),))),
        st.dictionaries(st.sampled_from(NAMES), inner, min_size=1, max_size=3).map(struct_type),
    )


SCALARS = st.one_of(
    st.sampled_from(
        [Type(name, name) for name in ("string", "int", "bigint", "double", "date", "binary", "boolean", "timestamp")]
    ),
    st.tuples(st.integers(1, 38), st.integers(0, 38)).map(lambda pair: decimal_type((max(pair), pair[1]))),
)
TYPES = st.recursive(SCALARS, wrap, max_leaves=5)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
FIRST, LAST = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
MOMENTS = st.integers(0, (LAST - FIRST) // timedelta(microseconds=1)).map(lambda n: FIRST + timedelta(microseconds=n))
VALUES: Mapping[str, st.SearchStrategy[Any]] = {
    "string": TEXTS, "int": st.integers(-(2**31), 2**31 - 1), "bigint": st.integers(-(2**63), 2**63 - 1),
    "date": st.dates(), "binary": st.binary(max_size=20), "boolean": st.booleans(), "timestamp": MOMENTS,
}  # fmt: skip


def values_of(of: Type, finite: bool, may_be_null: bool = True) -> st.SearchStrategy[Any]:
    match of.kind:
        case "double":
            found: st.SearchStrategy[Any] = st.floats(allow_nan=not finite, allow_infinity=not finite)
        case "decimal":
            precision, scale = of.digits
            most = 10**precision - 1
            found = st.integers(-most, most).map(lambda number: build_decimal(number, scale))
        case "array":
            found = st.lists(values_of(of.parts[0][1], finite), max_size=3)
        case "map":
            found = st.dictionaries(TEXTS, values_of(of.parts[0][1], finite), max_size=3)
        case "struct":
            found = st.fixed_dictionaries({name: values_of(each, finite) for name, each in of.parts})
        case _:
            found = VALUES[of.kind]
    return st.none() | found if may_be_null else found


@dataclass(frozen=True)
class Case:
    spec: TableSpec
    types: dict[str, Type]
    rows: list[dict[str, Any]]


@st.composite
def tables(draw: st.DrawFn, finite: bool = False) -> Case:
    types = draw(st.dictionaries(st.sampled_from(NAMES), TYPES, min_size=1, max_size=4))
    required = {name for name in types if draw(st.booleans())}
    columns = tuple(Column(name, of.spelling, f"What {name} is", name not in required) for name, of in types.items())
    row = st.fixed_dictionaries({name: values_of(of, finite, name not in required) for name, of in types.items()})
    spec = TableSpec("gold.some_rows", "Rows.", "row", tuple(types)[:1], columns)
    return Case(spec, types, draw(st.lists(row, min_size=1, max_size=3)))


def write(case: Case, schema_format: SchemaFormat) -> tuple[WrittenSchema, list[bytes]]:
    """The values without their frames, written as a task writes them: from a batch of structs."""
    schema = write_schema(read_table_shape((case.spec,)), schema_format)
    [rows] = pa.Table.from_pylist(case.rows, build_arrow_schema(case.spec)).to_batches()
    batch = pa.record_batch([pa.array(["key"] * len(rows)), rows.to_struct_array()], ["key", "row"])
    written = pa.Table.from_batches(FramedWriter(258, schema).write_batches([batch]))
    assert written["key"].to_pylist() == ["key"] * len(rows)
    assert all(value[:5] == b"\0\0\0\1\2" for value in written["value"].to_pylist())
    return schema, [value[5:] for value in written["value"].to_pylist()]


def same(one: Any, other: Any) -> bool:
    """Equal, of one type, with the digits of decimals and the sign of zeros; NaN is NaN."""
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        if math.isnan(one):
            return math.isnan(other)
        return one == other and math.copysign(1, one) == math.copysign(1, other)
    if isinstance(one, Decimal) and isinstance(other, Decimal):
        return one == other and one.as_tuple().exponent == other.as_tuple().exponent
    return type(one) is type(other) and bool(one == other)


def assert_same(found: Any, expected: Any) -> None:
    assert same(found, expected), (found, expected)


@given(case=tables())
def test_avro_is_read_by_fastavro(case: Case) -> None:
    schema, values = write(case, "avro")
    parsed = fastavro.parse_schema(json.loads(schema.text))
    for value, row in zip(values, case.rows, strict=True):
        source = io.BytesIO(value)
        found: Any = fastavro.schemaless_reader(source, parsed, None)
        assert not source.read()
        assert_same(found, row)


@cache
def compile_proto(text: str) -> Any:
    """The class of a schema's first message: protoc by its command line, and the runtime."""
    builtin = str(importlib.resources.files("grpc_tools") / "_proto")
    with tempfile.TemporaryDirectory() as folder:
        for name, of in {**CONFLUENT_FILES, "main.proto": text}.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(of)
        arguments = [f"-I{folder}", f"-I{builtin}", f"--descriptor_set_out={folder}/out", "--include_imports"]
        assert protoc.main(["", *arguments, "main.proto"]) == 0, text
        files = descriptor_pb2.FileDescriptorSet.FromString(Path(folder, "out").read_bytes()).file
    pool = descriptor_pool.DescriptorPool()
    for file in files:
        pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"gold.{files[-1].message_type[0].name}"))


def read_proto(of: Type, value: Any) -> Any:
    """A row's value from what stands for it in a message."""
    match of.kind:
        case "date":
            return date.fromisoformat(value)
        case "timestamp":
            return FIRST.replace(year=1970) + timedelta(seconds=value.seconds, microseconds=value.nanos // 1000)
        case "decimal":
            assert (value.precision, value.scale) == of.digits
            return build_decimal(int.from_bytes(value.value, "big", signed=True), value.scale)
        case "array":
            items = [None if place in value.nulls else each for place, each in enumerate(value.items)]
            return [None if each is None else read_proto(of.parts[0][1], each) for each in items]
        case "map":
            entries = {key: read_proto(of.parts[0][1], each) for key, each in value.entries.items()}
            return {**entries, **dict.fromkeys(value.nulls)}
        case "struct":
            return {name: read_member(each, value, name) for name, each in of.parts}
    return value


def read_member(of: Type, message: Any, name: str) -> Any:
    field = message.DESCRIPTOR.fields_by_name[name]
    if field.has_presence and not message.HasField(name):
        return None
    return read_proto(of, getattr(message, name))


@examples(100, quick=20)
@given(case=tables())
def test_protobuf_is_read_by_googles_runtime(case: Case) -> None:
    schema, values = write(case, "protobuf")
    message = compile_proto(schema.text)
    for value, row in zip(values, case.rows, strict=True):
        assert value[:1] == b"\0"
        found = message.FromString(value[1:])
        assert_same({name: read_member(of, found, name) for name, of in case.types.items()}, row)


def read_json(of: Type, value: Any) -> Any:
    """A row's value from its JSON, whose numbers are texts here."""
    if value is None:
        return None
    match of.kind:
        case "double":
            return float(value)
        case "int" | "bigint":
            return int(value)
        case "decimal":
            return Decimal(value)
        case "date":
            return date.fromisoformat(value)
        case "timestamp":
            assert value.endswith("Z")
            return datetime.fromisoformat(value)
        case "binary":
            return msgspec.convert(value, bytes)
        case "array":
            return [read_json(of.parts[0][1], each) for each in value]
        case "map":
            return {key: read_json(of.parts[0][1], each) for key, each in value.items()}
        case "struct":
            return {name: read_json(each, value[name]) for name, each in of.parts}
    return value


@given(case=tables())
def test_json_is_valid_by_its_schema_and_read_as_json(case: Case) -> None:
    schema, values = write(case, "json")
    validator = jsonschema_rs.Draft7Validator(json.loads(schema.text), validate_formats=True)
    for value, row in zip(values, case.rows, strict=True):
        validator.validate(json.loads(value))
        found = json.loads(value, parse_float=str, parse_int=str)
        assert_same({name: read_json(of, found[name]) for name, of in case.types.items()}, row)


def unwrap_plain(of: Type, value: Any, schema_format: SchemaFormat) -> Any:
    """A row's value from the plain value that a reader of the platform gives."""
    if value is None:
        return None
    inner = of.parts[0][1] if of.parts else of
    if of.kind in ("array", "map") and schema_format == "protobuf":
        nulls = value["nulls"]
        if of.kind == "array":
            items = [None if place in nulls else each for place, each in enumerate(value["items"])]
            return [unwrap_plain(inner, each, schema_format) for each in items]
        return {
            key: unwrap_plain(inner, each, schema_format)
            for key, each in {**value["entries"], **dict.fromkeys(nulls)}.items()
        }
    match of.kind:
        case "array":
            return [unwrap_plain(inner, each, schema_format) for each in value]
        case "map":
            return {key: unwrap_plain(inner, each, schema_format) for key, each in value.items()}
        case "struct":
            return {name: unwrap_plain(each, value.get(name), schema_format) for name, each in of.parts}
    if isinstance(value, str | int | Decimal) and not isinstance(value, bool):
        return read_json(of, value)
    return value


@pytest.mark.parametrize("schema_format", FORMATS)
@examples(100, quick=20)
@given(case=tables(finite=True))
def test_the_platforms_own_readers_find_the_row(schema_format: SchemaFormat, case: Case) -> None:
    schema, values = write(case, schema_format)
    readers = compile_schema(RegisteredSchema(258, schema_format, schema.text))
    for payload, row in zip(values, case.rows, strict=True):
        place, value = readers.split(payload)
        found = readers.find(place).read(value)
        plain = {name: unwrap_plain(of, found.get(name), schema_format) for name, of in case.types.items()}
        assert_same(plain, row)


COLUMNS = (
    Column("id", "string", "Its id", nullable=False),
    Column("at", "timestamp", "When\nit was"),
    Column("amount", "decimal(12,2)", "How much"),
    Column("tags", "array<string>", ""),
    Column("score", "double", ""),
)
SPEC = TableSpec("gold.some_rows", "Rows.", "row", ("id",), COLUMNS)


def test_a_schema_is_what_a_person_would_write() -> None:
    shape = read_table_shape((SPEC,))
    moment = {"type": "long", "logicalType": "timestamp-micros"}
    amount = {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}
    assert json.loads(write_schema(shape, "avro").text) == {
        "type": "record", "name": "some_rows", "namespace": "gold", "fields": [
            {"name": "id", "type": "string", "doc": "Its id"},
            {"name": "at", "type": ["null", moment], "doc": "When\nit was", "default": None},
            {"name": "amount", "type": ["null", amount], "doc": "How much", "default": None},
            {"name": "tags", "type": ["null", {"type": "array", "items": ["null", "string"]}], "default": None},
            {"name": "score", "type": ["null", "double"], "default": None},
        ],
    }  # fmt: skip
    assert write_schema(shape, "protobuf").text == PROTO
    found = json.loads(write_schema(shape, "json").text)
    assert (found["title"], found["required"], found["additionalProperties"]) == ("some_rows", ["id"], False)
    assert found["properties"]["score"] == {
        "oneOf": [{"type": "null"}, {"type": "number"}, {"type": "string", "enum": ["NaN", "Infinity", "-Infinity"]}]
    }
    assert found["properties"]["tags"]["oneOf"][1]["items"] == {"oneOf": [{"type": "null"}, {"type": "string"}]}


@pytest.mark.parametrize("schema_format", FORMATS)
def test_a_reader_finds_the_types_of_the_columns(schema_format: SchemaFormat) -> None:
    """A topic that `headrace new-topic` drafts of the schema has them."""
    schema = write_schema(read_table_shape((SPEC,)), schema_format)
    readers = compile_schema(RegisteredSchema(1, schema_format, schema.text))
    members = {each.name: each for each in readers.find(readers.places[0]).shape.members}
    assert list(members) == [column.name for column in COLUMNS]
    assert [name for name, each in members.items() if not each.may_be_absent and not each.shape.is_nullable] == ["id"]
    [at], [amount], [score] = (members[name].shape.choices for name in ("at", "amount", "score"))
    assert at.kind == "timestamp"
    assert (amount.kind, amount.digits) == ("number" if schema_format == "json" else "decimal", (12, 2))
    assert score.kind == "float"
    assert members["amount"].description == "How much"


def test_fields_keep_their_numbers_when_a_table_gets_a_column() -> None:
    wider = replace(SPEC, columns=(*COLUMNS, Column("note", "string", "Said")))
    other = TableSpec("platform.notes", "Notes.", "note", ("id",), (COLUMNS[0], Column("by", "string", "Who")))
    for spec in (SPEC, wider):
        text = write_schema(read_table_shape((spec, other)), "protobuf").text
        assert "optional double score = 5;" in text and "optional string by = 1002;" in text
    assert "optional string note = 6;" in text


def test_a_topic_of_states_has_the_columns_of_all_its_tables() -> None:
    registered: list[tuple[str, str, str]] = []

    def register(*schema: Any) -> int:
        registered.append(schema)
        return 7

    assert STREAM.published_state is not None
    writer = PublishedValues(STREAM, SchemaTarget("avro", register)).open()
    PublishedValues(STREAM, SchemaTarget("avro", register)).open()
    [(subject, schema_format, text)] = registered
    assert (subject, schema_format) == ("card-holds-value", "avro")
    tables = (STREAM.main_table, *STREAM.published_state.others)
    names = list(dict.fromkeys(column.name for table in tables for column in table.columns))
    assert [field["name"] for field in json.loads(text)["fields"]] == names
    [value] = writer.write([{"card_id": "c", "state": "released", "by": "me"}])
    found = compile_schema(RegisteredSchema(7, "avro", text)).find(()).read(value[5:])
    assert found == {**dict.fromkeys(names), "card_id": "c", "state": "released", "by": "me"}


@pytest.mark.parametrize(
    ("columns", "schema_format", "said"),
    [
        ((Column("größe", "int", ""),), "avro", "Avro has no field of the name 'größe'"),
        ((Column("a-b", "int", ""),), "protobuf", "Protobuf has no field of the name 'a-b'"),
        ((Column("2nd", "int", ""),), "avro", "no field of the name '2nd'"),
        ((Column("a_b", "int", ""), Column("aB", "int", "")), "protobuf", "aB"),
        ((Column("m", "map<int,string>", ""),), "json", "the column m has a map whose keys are no texts"),
    ],
)
def test_what_a_format_cannot_have_is_named(columns: Any, schema_format: SchemaFormat, said: str) -> None:
    stream = replace(STREAM, tables=(replace(SPEC, columns=columns),), published_state=None)
    with pytest.raises(SettingError, match=said) as refusal:
        PublishedValues(stream, SchemaTarget(schema_format, lambda *_: 1))
    assert "card-holds" in str(refusal.value) and "HEADRACE_PUBLISH_FORMAT" in str(refusal.value)


def test_tables_that_give_a_column_two_types_are_named() -> None:
    assert STREAM.published_state is not None
    other = TableSpec("platform.other", "Others.", "row", ("score",), (Column("score", "string", ""),))
    state = replace(STREAM.published_state, others=(other,))
    said = "the column score is a floating-point number in gold.card_holds, and a text in platform.other"
    with pytest.raises(SettingError, match=said):
        PublishedValues(replace(STREAM, published_state=state), SchemaTarget("avro", lambda *_: 1))


def test_columns_may_have_any_name_in_json() -> None:
    spec = replace(SPEC, columns=(Column("größe in cm", "int", ""), Column("a.b", "string", "")))
    case = Case(spec, {}, [{"größe in cm": 1, "a.b": "x"}])
    schema, [value] = write(case, "json")
    assert json.loads(value) == {"größe in cm": 1, "a.b": "x"}
    jsonschema_rs.Draft7Validator(json.loads(schema.text)).validate(json.loads(value))
