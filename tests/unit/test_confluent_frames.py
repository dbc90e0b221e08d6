"""Values that Confluent's serializer for Python has written, with the schemas that it registered for them.

It registers serialized descriptors; a registry gives them out so, or as the text of a .proto file.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from platform_assets.streaming.formats.protobuf_schema import ProtobufReader, read_protobuf
from platform_assets.streaming.formats.registered_schema import NamedSchema, RegisteredSchema

EVENT = (
    "CgtldmVudC5wcm90bxIHc2hvcC52MRofZ29vZ2xlL3Byb3RvYnVmL3RpbWVzdGFtcC5wcm90bxoUY29tbW9uL2FkZHJlc3MucHJvdG8aF2dvb2"
    "dsZS90eXBlL21vbmV5LnByb3RvIusCCgVFdmVudBIQCghldmVudF9pZBgBIAEoCRIMCgR1c2VyGAIgASgEEiYKAmF0GAMgASgLMhouZ29vZ2xl"
    "LnByb3RvYnVmLlRpbWVzdGFtcBIhCgRraW5kGAQgASgOMhMuc2hvcC52MS5FdmVudC5LaW5kEisKB2J5X25hbWUYBSADKAsyGi5zaG9wLnYxLk"
    "V2ZW50LkJ5TmFtZUVudHJ5EiAKB2FkZHJlc3MYBiABKAsyDy5jb21tb24uQWRkcmVzcxIhCgVwcmljZRgHIAEoCzISLmdvb2dsZS50eXBlLk1v"
    "bmV5GkIKC0J5TmFtZUVudHJ5EgsKA2tleRgBIAEoCRIiCgV2YWx1ZRgCIAEoCzITLnNob3AudjEuRXZlbnQuSXRlbToCOAEaIgoESXRlbRILCg"
    "Nza3UYASABKAkSDQoFY2VudHMYAiABKBIiHQoES2luZBILCgdVTktOT1dOEAASCAoEVklFVxABIjIKBU90aGVyEgsKA3JhdxgBIAEoDBISCgVy"
    "YXRpbxgCIAEoAUgAiAEBQggKBl9yYXRpb2IGcHJvdG8z"
)
ADDRESS = "ChRjb21tb24vYWRkcmVzcy5wcm90bxIGY29tbW9uIiwKB0FkZHJlc3MSDgoGc3RyZWV0GAEgAigJEhEKBm51bWJlchgCIAEoBToBNw=="

EVENT_TEXT = """
syntax = "proto3";
package shop.v1;

import "google/protobuf/timestamp.proto";
import "common/address.proto";
import "google/type/money.proto";

message Event {
  string event_id = 1;
  uint64 user = 2;
  .google.protobuf.Timestamp at = 3;
  .shop.v1.Event.Kind kind = 4;
  map<string, .shop.v1.Event.Item> by_name = 5;
  .common.Address address = 6;
  .google.type.Money price = 7;

  message Item {
    string sku = 1;
    sint64 cents = 2;
  }
  enum Kind {
    UNKNOWN = 0;
    VIEW = 1;
  }
}
message Other {
  bytes raw = 1;
  optional double ratio = 2;
}
"""
ADDRESS_TEXT = """
syntax = "proto2";
package common;

message Address {
  required string street = 1;
  optional int32 number = 2 [default = 7];
}
"""


@pytest.fixture(scope="module", params=["serialized", "text", "text and serialized", "serialized and text"])
def reader(request: pytest.FixtureRequest) -> ProtobufReader:
    event, address = {
        "serialized": (EVENT, ADDRESS),
        "text": (EVENT_TEXT, ADDRESS_TEXT),
        "text and serialized": (EVENT_TEXT, ADDRESS),
        "serialized and text": (EVENT, ADDRESS_TEXT),
    }[request.param]
    reference = NamedSchema("common/address.proto", address)
    return read_protobuf(RegisteredSchema(2, "protobuf", event, (reference,)))


@pytest.mark.parametrize(
    ("frame", "value"),
    [
        (
            "0000000002000a02653110858080808080808080011a0b08c0a7b0d806108094ef3a20012a0b0a016112"
            "060a017310d70432050a03456c6d3a0c0a0345555210051880e59a77",
            {
                "event_id": "e1",
                "user": 2**63 + 5,
                "at": datetime(2026, 11, 29, 12, 0, 0, 123456, UTC),
                "kind": "VIEW",
                "by_name": {"a": {"sku": "s", "cents": -300}},
                "address": {"street": "Elm"},
                "price": {"currency_code": "EUR", "units": 5, "nanos": 250_000_000},
            },
        ),
        ("000000000302020a0200ff110000000000000000", {"raw": b"\x00\xff", "ratio": 0.0}),
        ("00000000040400020a01781012", {"sku": "x", "cents": 9}),
    ],
)
def test_what_another_implementation_has_written(reader: ProtobufReader, frame: str, value: dict[str, Any]) -> None:
    assert reader.read(bytes.fromhex(frame)[5:]) == value
