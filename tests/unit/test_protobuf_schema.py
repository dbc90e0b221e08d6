"""Protobuf schemas as registries give them: the texts of .proto files with all that the language has."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import message_factory

from platform_assets.streaming.formats.protobuf_schema import ProtobufReader, read_protobuf
from platform_assets.streaming.formats.reader import SchemaError, UndecodableError
from platform_assets.streaming.formats.registered_schema import NamedSchema, RegisteredSchema

EVENT = """
syntax = "proto3";
package shop.v1;
import "google/protobuf/any.proto";
import "google/protobuf/field_mask.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
import "google/type/money.proto";
import "confluent/meta.proto";
import "confluent/type/decimal.proto";
import "common/address.proto";

option java_package = "com.example";

// What a shop sees.
message Event {
  option (confluent.message_meta).doc = "an event";
  reserved 90, 91;
  reserved "old";
  // Its own id,
  // unique.
  string event_id = 1;
  uint64 user = 2;
  google.protobuf.Timestamp at = 3;
  Kind kind = 4;
  optional sint32 count = 5 [deprecated = true];
  repeated Item items = 6;
  map<string, Item> by_name = 7;
  oneof payment { string card = 8; Item voucher = 9; }
  google.protobuf.Struct extra = 10;
  google.protobuf.StringValue note = 11;
  google.protobuf.Any detail = 12;
  google.type.Money price = 13;
  confluent.type.Decimal amount = 14 [(confluent.field_meta) = {
    params: [{ key: "precision", value: "10" }, { key: "scale", value: "2" }]
  }];
  common.Address address = 15;
  google.protobuf.FieldMask mask = 16;
  Event inner = 17;
  google.protobuf.NullValue nothing = 18;
  float ratio = 19;
  enum Kind { option allow_alias = true; UNKNOWN = 0; VIEW = 1; SEEN = 1; BUY = 2; }
  message Item { string sku = 1; int64 cents = 2; }
}
message Other { bytes raw = 1; }
"""
ADDRESS = """
syntax = "proto2";
package common;
import public "common/country.proto";
message Address {
  required string street = 1;
  optional Country country = 2 [default = DE];
  repeated Country been_in = 3 [packed = true];
  map<string, Country> of = 4;
  optional group Geo = 5 { optional double lat = 1; }
  extensions 100 to 199;
}
extend Address { optional string vip = 100; }
"""
COUNTRY = 'syntax = "proto2"; package common; enum Country { DE = 0; FR = 2; }'
REFERENCES = (NamedSchema("common/country.proto", COUNTRY), NamedSchema("common/address.proto", ADDRESS))


def register(text: str, *references: NamedSchema) -> RegisteredSchema:
    return RegisteredSchema(1, "protobuf", text, references)


def read(text: str, *references: NamedSchema) -> ProtobufReader:
    return read_protobuf(register(text, *references))


def declare(reader: ProtobufReader, name: str) -> Any:
    """The class of a type as it is declared, to write values with."""
    return message_factory.GetMessageClass(reader._types.find(name))


def one(fields: str, syntax: str = "proto3") -> str:
    return f'syntax = "{syntax}"; package p; message M {{ {fields} }} enum E {{ A = 0; B = 1; }}'


@pytest.fixture(scope="module")
def event() -> ProtobufReader:
    return read(EVENT, *REFERENCES)


def test_a_value_with_all_that_a_schema_has(event: ProtobufReader) -> None:
    message = declare(event, "shop.v1.Event")(event_id="e1", user=2**64 - 1, kind=7, count=0, card="", ratio=0.1)
    message.at.FromDatetime(datetime(2026, 1, 2, 3, 4, 5, 678901, UTC))
    message.items.add(sku="a", cents=-5)
    message.by_name["x"].cents = 7
    large = {"big": 1e300, "large": 2.0**60}
    message.extra.update({"whole": 5, "part": 2.5, "list": [None, True, {"a": "b"}], **large})
    message.note.value = ""
    message.detail.Pack(declare(event, "shop.v1.Other")(raw=b"\x01"), "type.googleapis.com/")
    message.price.currency_code, message.price.units = "EUR", 12
    message.amount.value, message.amount.scale = (-123456).to_bytes(4, "big", signed=True), 2
    message.address.street, message.address.country = "s", 2
    message.address.of["y"], message.address.geo.lat = 0, 1.5
    message.mask.paths.append("a.b")
    message.inner.event_id = "e2"
    found = event.read(b"\0" + message.SerializeToString())
    absent: Mapping[str, Any] = {
        "user": 0, "kind": "UNKNOWN", "items": [], "by_name": {}, "nothing": None, "ratio": 0.0,
    }  # fmt: skip
    assert found == {
        "event_id": "e1", "user": 2**64 - 1, "at": datetime(2026, 1, 2, 3, 4, 5, 678901, UTC), "kind": 7, "count": 0,
        "items": [{"sku": "a", "cents": -5}], "by_name": {"x": {"sku": "", "cents": 7}}, "card": "",
        "extra": {"whole": 5, "part": 2.5, "list": [None, True, {"a": "b"}], **large}, "note": "",
        "detail": {"@type": "type.googleapis.com/shop.v1.Other", "raw": b"\x01"},
        "price": {"currency_code": "EUR", "units": 12, "nanos": 0}, "amount": Decimal("-1234.56"),
        "address": {"street": "s", "country": "FR", "been_in": [], "of": {"y": "DE"}, "geo": {"lat": 1.5}},
        "mask": {"paths": ["a.b"]}, "inner": {"event_id": "e2", **absent}, "nothing": None,
        "ratio": 0.10000000149011612,
    }  # fmt: skip
    assert [type(found["extra"][name]) for name in ("whole", "large")] == [int, float]
    assert str(found["amount"]) == "-1234.56"


def test_the_shape_of_all_that_a_schema_has(event: ProtobufReader) -> None:
    said = {each.name: (each.shape.say(), each.may_be_absent) for each in event.find((0,)).shape.members}
    assert said == {
        "event_id": ("a text", False), "user": ("a whole number of 64 bits, unsigned", False),
        "at": ("a timestamp", True), "kind": ("one of UNKNOWN, VIEW, BUY", False),
        "count": ("a whole number of 32 bits", True),
        "items": ("a list whose items are each a record", False),
        "by_name": ("a map whose items are each a record", False),
        "card": ("a text", True), "voucher": ("a record", True),
        "extra": ("a map whose items are each a value of any type", True),
        "note": ("a text", True), "detail": ("a value of any type", True),
        "price": ("a record", True), "amount": ("a decimal(10,2)", True), "address": ("a record", True),
        "mask": ("a record", True), "inner": ("a record", True), "nothing": ("null", False),
        "ratio": ("a floating-point number", False),
    }  # fmt: skip
    inner = event.find((0,)).shape.find("inner")
    assert inner is not None
    assert inner.shape.is_recursive
    first = event.find((0,)).shape.find("event_id")
    assert first is not None
    assert first.description == "Its own id, unique."


def test_each_message_type_has_a_reader_of_its_own(event: ProtobufReader) -> None:
    assert dict(event.list_types()) == {(0,): "shop.v1.Event", (0, 1): "shop.v1.Event.Item", (1,): "shop.v1.Other"}
    assert event.read(b"\x02\x02\x0a\x01\xff") == {"raw": b"\xff"}
    assert event.split(b"\x02\x02\x0a\x01\xff") == ((1,), b"\x0a\x01\xff")
    assert event.find((1,)) is event.find((1,))
    for index in ((2,), (0, 5), (1, 0), (0, 1, 0)):
        with pytest.raises(SchemaError, match="no message type at the index"):
            event.find(index)
    with pytest.raises(UndecodableError, match="no message type at the index"):
        event.read(b"\x02\x04")


def test_an_index_that_serializers_count_differently_is_not_guessed() -> None:
    """The entry of a map is a nested type for Confluent's Python and Go, and none for Java."""
    schema = read(one("map<string, string> m = 1; message A { string a = 2; } message B { string b = 3; }"))
    assert schema.find((0, 2)).shape.name == "p.M.B", "Java has no third type"
    assert schema.find((0, 0)).shape.name == "p.M.A", "no value is a map's entry"
    with pytest.raises(SchemaError, match=r"the message index \[0, 1\] means A or B"):
        schema.find((0, 1))


def test_a_refused_schema_says_why_and_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    schema = register(one("Missing m = 1;"))
    with pytest.raises(SchemaError, match=r'1:\d+: "Missing" is not defined\.$'):
        read_protobuf(schema)
    monkeypatch.setattr("subprocess.run", None)
    with pytest.raises(SchemaError, match="Missing"):
        read_protobuf(schema)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no message type"),
        ("no proto", "Expected top-level statement"),
        ('syntax = "proto9";', "proto9"),
        (one("string a = 1; string b = 1;"), "already been used"),
        ('syntax = "proto3"; import "nowhere.proto"; message M {}', "nowhere.proto"),
        ('syntax = "proto3"; import "/etc/passwd"; message M {}', "/etc/passwd"),
        ('syntax = "proto3"; import "../x.proto"; message M {}', "not allowed"),
        ('syntax = "proto3"; import "schema.proto"; message M {}', "itself"),
        ("message M {" * 1000, "nested"),
        ("\ud800", "no Unicode"),
        ("CgA=", "no message type"),
    ],
)
def test_broken_texts_are_refused_in_words(text: str, said: str) -> None:
    with pytest.raises(SchemaError, match=said):
        read(text).find((0,))


@pytest.mark.parametrize("name", ["../up.proto", "/root.proto", "a/../b.proto", "", "a\0b", "a//b", ".", "a\\b"])
def test_a_reference_is_written_nowhere_else(name: str) -> None:
    with pytest.raises(SchemaError, match="no path of a"):
        read(one("string a = 1;"), NamedSchema(name, COUNTRY))


def test_references_that_are_files_and_folders_are_refused() -> None:
    with pytest.raises(SchemaError, match="file and a folder"):
        read(one("string a = 1;"), NamedSchema("a", COUNTRY), NamedSchema("a/b.proto", COUNTRY))


def test_a_reference_may_be_called_as_the_schema_is() -> None:
    text = 'syntax = "proto3"; import "schema.proto"; message M { common.Country c = 1; }'
    assert read(text, NamedSchema("schema.proto", COUNTRY.replace("proto2", "proto3"))).read(b"\0\x08\x02") == {
        "c": "FR"
    }


def test_nothing_is_left_behind() -> None:
    before = set(Path(tempfile.gettempdir()).glob("headrace-protobuf-*"))
    read(one("string left = 1;"))
    assert set(Path(tempfile.gettempdir()).glob("headrace-protobuf-*")) <= before


@pytest.mark.parametrize("edition", ["2023", "2024"])
def test_editions(edition: str) -> None:
    text = f"""edition = "{edition}"; package p;
    message M {{
      string a = 1; int32 b = 2 [features.field_presence = IMPLICIT];
      repeated int32 c = 3 [features.repeated_field_encoding = EXPANDED];
      N d = 4 [features.message_encoding = DELIMITED]; E e = 5;
    }}
    message N {{ string a = 1; }}
    enum E {{ option features.enum_type = CLOSED; X = 3; }}"""
    schema = read(text)
    message = declare(schema, "p.M")(c=[1, 2], e=3)
    message.d.a = "x"
    assert schema.read(b"\0" + message.SerializeToString()) == {"b": 0, "c": [1, 2], "d": {"a": "x"}, "e": "X"}
    assert [each.may_be_absent for each in schema.find((0,)).shape.members] == [True, False, False, True, True]


def test_a_type_that_only_has_the_name_of_a_well_known_one_is_an_ordinary_one() -> None:
    text = (
        'syntax = "proto3"; package google.protobuf; message M { Timestamp t = 1; } message Timestamp { string s = 1; }'
    )
    assert read(text).read(b"\0\x0a\x03\x0a\x01x") == {"t": {"s": "x"}}


def test_a_decimal_without_its_digits_and_with_too_many() -> None:
    text = 'syntax = "proto3"; import "confluent/type/decimal.proto"; message M { confluent.type.Decimal d = 1; }'
    schema = read(text)
    [member] = schema.find((0,)).shape.members
    assert (member.shape.kind, member.shape.digits) == ("decimal", None)
    decimal = declare(schema, "confluent.type.Decimal")
    assert schema.read(b"\0" + declare(schema, "M")(d=decimal()).SerializeToString()) == {"d": Decimal(0)}
    for broken in (decimal(value=b"\1" * 129), decimal(value=b"\1", scale=2**31 - 1)):
        with pytest.raises(UndecodableError, match="too many"):
            schema.read(b"\0" + declare(schema, "M")(d=broken).SerializeToString())


def test_confluents_files_need_no_reference() -> None:
    text = """
    syntax = "proto3";
    import "confluent/meta.proto";
    import "confluent/types/decimal.proto";
    import "confluent/type/variant.proto";
    message M {
      confluent.type.Decimal d = 1;
      confluent.type.Variant v = 2;
      string id = 3 [(confluent.field_meta) = {
        doc: "its id" tags: ["PII"] rules: [{ name: "filled" expr: "size(this) > 0" }]
      }];
    }"""
    schema = read(text, NamedSchema("confluent/meta.proto", "of another's"))
    value = declare(schema, "confluent.type.Decimal")(value=b"\1", scale=-2)
    message = declare(schema, "M")(d=value, v=declare(schema, "confluent.type.Variant")(value=b"\2"))
    assert schema.read(b"\0" + message.SerializeToString()) == {
        "d": Decimal(100), "v": {"metadata": b"", "value": b"\2"}, "id": "",
    }  # fmt: skip


def test_types_that_all_hold_each_other_have_a_shape_that_ends() -> None:
    names = [f"T{number}" for number in range(20)]
    fields = " ".join(f"T{number} f{number} = {number + 1};" for number in range(20))
    text = 'syntax = "proto3"; ' + " ".join(f"message {name} {{ {fields} }}" for name in names)
    shape = read(text).find((0,)).shape
    assert 20 < sum(1 for _ in shape.walk()) < 50_000
    assert read(text).read(b"\0\x0a\x02\x12\x00") == {"f0": {"f1": {}}}


def test_a_chain_of_types_longer_than_the_stack_is_read() -> None:
    text = 'syntax = "proto3"; ' + " ".join(f"message T{n} {{ T{n + 1} f = 1; }}" for n in range(2000))
    schema = read(text + " message T2000 { string f = 1; }")
    assert schema.read(b"\0\x0a\x02\x0a\x00") == {"f": {"f": {}}}


def test_many_threads_ask_for_types_at_once() -> None:
    schema = read(EVENT, *REFERENCES)
    message = declare(schema, "shop.v1.Event")(event_id="e")
    message.detail.Pack(declare(schema, "shop.v1.Event.Item")(sku="a"))
    value = b"\0" + message.SerializeToString()
    fresh = ProtobufReader(schema._types)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: fresh.read(value), range(200)))
    assert all(each == found[0] for each in found)
