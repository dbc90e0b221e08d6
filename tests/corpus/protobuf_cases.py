"""Protobuf schemas with values: as Protobuf's own JSON has them, and what they mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True)
class ProtobufCase:
    """A .proto file, one of its messages and a value. `references` are the texts of what it imports, by path.

    `refused`: what is said of the value, by the writer whose value or schema is another than it should be.
    """

    name: str
    text: str
    message: str
    given: dict[str, Any]
    means: dict[str, Any]
    references: tuple[tuple[str, str], ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)


_SCALARS = """syntax = "proto3";
package shop.v1;
message Scalars {
  int32 a = 1; sint32 b = 2; sfixed32 c = 3; uint32 d = 4; fixed32 e = 5;
  int64 f = 6; sint64 g = 7; sfixed64 h = 8; uint64 i = 9; fixed64 j = 10;
  float k = 11; double l = 12; bool m = 13; string n = 14; bytes o = 15;
  repeated int32 p = 16; repeated sint64 q = 17; repeated string r = 18; repeated double s = 2000;
  optional int32 t = 20; optional string u = 21; optional bool v = 22; optional double w = 23;
}
"""
_DEFAULTS = {"a": 0, "b": 0, "c": 0, "d": 0, "e": 0, "f": 0, "g": 0, "h": 0, "i": 0, "j": 0, "k": 0.0, "l": 0.0,
             "m": False, "n": "", "o": b"", "p": [], "q": [], "r": [], "s": []}  # fmt: skip
_NESTING = """syntax = "proto3";
package shop.v1;
message First { string a = 1; }
message Order {
  enum Kind { UNKNOWN = 0; SALE = 1; REFUND = -2; }
  message Line {
    message Tax { int64 cents = 1; Kind kind = 2; }
    string sku = 1; repeated Tax taxes = 2;
  }
  string order_id = 1;
  Kind kind = 2;
  repeated Line lines = 3;
  map<string, Line> by_sku = 4;
  map<int64, string> by_number = 5;
  map<bool, Kind> by_truth = 6;
  oneof paid { string card = 7; int64 cash = 8; Line goods = 9; }
  Line first = 10;
  repeated Kind kinds = 11;
}
"""
_KNOWN = """syntax = "proto3";
package shop.v1;
import "google/protobuf/any.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/empty.proto";
import "google/protobuf/field_mask.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
message Known {
  google.protobuf.Timestamp at = 1;
  google.protobuf.Timestamp nanos = 2;
  google.protobuf.Timestamp old = 3;
  google.protobuf.Duration took = 4;
  google.protobuf.Duration back = 5;
  google.protobuf.Int64Value count = 6;
  google.protobuf.StringValue text = 7;
  google.protobuf.BoolValue no = 8;
  google.protobuf.DoubleValue unset = 9;
  google.protobuf.Struct extra = 10;
  google.protobuf.Value any_value = 11;
  google.protobuf.ListValue list = 12;
  google.protobuf.Any sent = 13;
  google.protobuf.FieldMask mask = 14;
  google.protobuf.Empty nothing = 15;
  repeated google.protobuf.Timestamp times = 16;
  google.protobuf.NullValue null_value = 17;
}
message Note { string text = 1; }
"""
_ADDRESS = """syntax = "proto2";
package common;
message Address {
  required string street = 1;
  optional int32 number = 2 [default = 7];
  optional group Floor = 3 { optional int32 level = 4; }
}
"""
_IMPORTS = """syntax = "proto3";
package shop.v1;
import "common/address.proto";
message Customer { string name = 1; common.Address address = 2; repeated common.Address others = 3; }
"""
# It registers a group as a message, whose bytes are others.
_GROUPS = {"apicurio": "has a wire type of another type"}
_LINE = {"sku": "s", "taxes": [{"cents": "-300", "kind": "REFUND"}, {}]}
_LINE_MEANS = {"sku": "s", "taxes": [{"cents": -300, "kind": "REFUND"}, {"cents": 0, "kind": "UNKNOWN"}]}

CASES = (
    ProtobufCase("defaults", _SCALARS, "Scalars", {}, _DEFAULTS),
    ProtobufCase(
        "largest scalars", _SCALARS, "Scalars",
        {"a": 2147483647, "b": 2147483647, "c": 2147483647, "d": 4294967295, "e": 4294967295,
         "f": "9223372036854775807", "g": "9223372036854775807", "h": "9223372036854775807",
         "i": "18446744073709551615", "j": "18446744073709551615", "k": 3.4028234663852886e38,
         "l": 1.7976931348623157e308, "m": True, "n": "Zürich \U0001f6d2\0", "o": "AP8Q", "p": [1, 0, -1, 300],
         "q": ["-1", "5000000000"], "r": ["", "b"], "s": [0.1, -5e-324], "t": 0, "u": "", "v": False, "w": 0.0},
        {"a": 2147483647, "b": 2147483647, "c": 2147483647, "d": 4294967295, "e": 4294967295,
         "f": 9223372036854775807, "g": 9223372036854775807, "h": 9223372036854775807, "i": 18446744073709551615,
         "j": 18446744073709551615, "k": 3.4028234663852886e38, "l": 1.7976931348623157e308, "m": True,
         "n": "Zürich \U0001f6d2\0", "o": b"\x00\xff\x10", "p": [1, 0, -1, 300], "q": [-1, 5000000000], "r": ["", "b"],
         "s": [0.1, -5e-324], "t": 0, "u": "", "v": False, "w": 0.0},
    ),
    ProtobufCase(
        "least scalars", _SCALARS, "Scalars",
        {"a": -2147483648, "b": -2147483648, "c": -2147483648, "f": "-9223372036854775808",
         "g": "-9223372036854775808", "h": "-9223372036854775808", "k": 0.1, "l": 5e-324, "t": -1},
        {**_DEFAULTS, "a": -2147483648, "b": -2147483648, "c": -2147483648, "f": -9223372036854775808,
         "g": -9223372036854775808, "h": -9223372036854775808, "k": 0.10000000149011612, "l": 5e-324, "t": -1},
    ),
    ProtobufCase("the first type", _NESTING, "First", {"a": "x"}, {"a": "x"}),
    ProtobufCase(
        "lists, maps and a choice", _NESTING, "Order",
        {"orderId": "o1", "kind": "SALE", "lines": [_LINE, {}], "bySku": {"s": _LINE, "": {}},
         "byNumber": {"-9223372036854775808": "least", "0": ""}, "byTruth": {"true": "SALE", "false": "REFUND"},
         "goods": _LINE, "kinds": ["SALE", "UNKNOWN", 77]},
        {"order_id": "o1", "kind": "SALE", "lines": [_LINE_MEANS, {"sku": "", "taxes": []}],
         "by_sku": {"s": _LINE_MEANS, "": {"sku": "", "taxes": []}},
         "by_number": {"-9223372036854775808": "least", "0": ""}, "by_truth": {"true": "SALE", "false": "REFUND"},
         "goods": _LINE_MEANS, "kinds": ["SALE", "UNKNOWN", 77]},
    ),
    ProtobufCase(
        "another choice", _NESTING, "Order", {"cash": "0", "kind": 5},
        {"order_id": "", "kind": 5, "lines": [], "by_sku": {}, "by_number": {}, "by_truth": {}, "cash": 0, "kinds": []},
    ),
    ProtobufCase("a nested type", _NESTING, "Order.Line", _LINE, _LINE_MEANS),
    ProtobufCase("a type nested twice", _NESTING, "Order.Line.Tax", {"cents": "5", "kind": "SALE"},
                 {"cents": 5, "kind": "SALE"}),
    ProtobufCase(
        "well-known types", _KNOWN, "Known",
        {"at": "2026-01-31T23:59:59.123456Z", "nanos": "2026-01-31T23:59:59.123456789Z", "old": "0001-01-01T00:00:00Z",
         "took": "90s", "back": "-1.500s", "count": "-5", "text": "", "no": False,
         "extra": {"a": 1, "b": [True, None, "t"], "c": {"d": 0.5}}, "anyValue": [1.5, {}], "list": ["x", 2],
         "sent": {"@type": "type.googleapis.com/shop.v1.Note", "text": "n"}, "mask": "orderId,lines.sku", "nothing": {},
         "times": ["1969-12-31T23:59:59.999999Z", "9999-12-31T23:59:59Z"]},
        {"at": datetime(2026, 1, 31, 23, 59, 59, 123456, UTC), "nanos": "2026-01-31T23:59:59.123456789Z",
         "old": datetime(1, 1, 1, tzinfo=UTC), "took": "PT90S", "back": "-PT1.500000000S", "count": -5, "text": "",
         "no": False, "extra": {"a": 1, "b": [True, None, "t"], "c": {"d": 0.5}}, "any_value": [1.5, {}],
         "list": ["x", 2], "sent": {"@type": "type.googleapis.com/shop.v1.Note", "text": "n"},
         "mask": {"paths": ["order_id", "lines.sku"]}, "nothing": {},
         "times": [datetime(1969, 12, 31, 23, 59, 59, 999999, UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)],
         "null_value": None},
    ),
    ProtobufCase(
        "imports", _IMPORTS, "Customer",
        {"name": "n", "address": {"street": "Elm"}, "others": [{"street": "", "number": 7}]},
        {"name": "n", "address": {"street": "Elm"}, "others": [{"street": "", "number": 7}]},
        references=(("common/address.proto", _ADDRESS),),
    ),
    ProtobufCase(
        "a group", _IMPORTS, "Customer",
        {"name": "n", "address": {"street": "Elm", "floor": {"level": 2}}},
        {"name": "n", "address": {"street": "Elm", "floor": {"level": 2}}, "others": []},
        references=(("common/address.proto", _ADDRESS),), refused=_GROUPS,
    ),
)  # fmt: skip
