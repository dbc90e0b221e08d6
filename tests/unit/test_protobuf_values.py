"""Protobuf values of any schema: the plain value is what the runtime's own JSON means, whatever the schema."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from platform_assets.streaming.formats.protobuf_schema import ProtobufReader, read_protobuf
from platform_assets.streaming.formats.protobuf_types import MessageTypes
from platform_assets.streaming.formats.reader import UndecodableError
from platform_assets.streaming.formats.registered_schema import RegisteredSchema
from tests.unit import protobuf_schemas as schemas

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


@given(file=schemas.files(), data=st.data())
@settings(max_examples=150, suppress_health_check=SLOW)
def test_a_value_means_what_the_runtimes_json_means(file: FileDescriptorProto, data: st.DataObject) -> None:
    reader = ProtobufReader(MessageTypes([*schemas.BUILTIN, file]))
    message = schemas.build_class(file)()
    schemas.fill(data.draw, message)
    try:
        expected = schemas.expect(message)
    except json_format.SerializeToJsonError:
        return  # a duration whose seconds are out of its range
    found = reader.read(b"\0" + message.SerializeToString())
    assert schemas.agree(found, expected), (found, expected)
    assert schemas.fits(reader.find((0,)).shape, found)


@given(file=schemas.files(), data=st.data())
@settings(max_examples=150, suppress_health_check=SLOW)
def test_no_bytes_raise_anything_else(file: FileDescriptorProto, data: st.DataObject) -> None:
    """Truncated, changed and longer values are values or are refused."""
    reader = ProtobufReader(MessageTypes([*schemas.BUILTIN, file]))
    message = schemas.build_class(file)()
    schemas.fill(data.draw, message)
    body = bytearray(message.SerializeToString())
    match data.draw(st.sampled_from(["cut", "change", "append", "insert"])):
        case "cut":
            del body[data.draw(st.integers(0, len(body))) :]
        case "change" if body:
            body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
        case "append":
            body += data.draw(st.binary(min_size=1, max_size=20))
        case _:
            at = data.draw(st.integers(0, len(body)))
            body[at:at] = data.draw(st.binary(min_size=1, max_size=6))
    try:
        found = reader.read(b"\0" + bytes(body))
    except UndecodableError as error:
        assert str(error)
        return
    assert isinstance(found, dict)


@given(file=schemas.files(), data=st.data())
@settings(max_examples=6, phases=[Phase.generate], suppress_health_check=SLOW)
def test_a_serialized_descriptor_is_read_as_its_text_is(file: FileDescriptorProto, data: st.DataObject) -> None:
    """Confluent's registry gives `format=serialized` so: base64, and the name of the file is its own."""
    file.name = "default"
    message = schemas.build_class(file)()
    schemas.fill(data.draw, message)
    text = base64.b64encode(file.SerializeToString()).decode()
    reader = read_protobuf(RegisteredSchema(1, "protobuf", text))
    assert schemas.agree(reader.read(b"\0" + message.SerializeToString()), schemas.expect(message))


def test_the_oracle_sees_what_is_another_value() -> None:
    assert not schemas.agree({"a": 1}, {"a": 1.0})
    assert not schemas.agree({"a": -0.0}, {"a": 0.0})
    assert not schemas.agree({"a": True}, {"a": 1})
    assert not schemas.agree({}, {"a": None})
    assert not schemas.agree(datetime(2026, 1, 1, tzinfo=UTC), "2026-01-01T00:00:00Z")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("label", [1, 3])
def test_a_number_that_json_has_not_is_refused_by_name(value: float, label: int) -> None:
    file = FileDescriptorProto(name="schema.proto", package="a", syntax="proto3")
    file.message_type.add(name="M").field.add(name="ratio", number=1, type=1, label=label)
    reader = ProtobufReader(MessageTypes([file]))
    message: Any = schemas.build_class(file, [])(ratio=value if label == 1 else [1.0, value])
    with pytest.raises(UndecodableError, match=r"a\.M\.ratio is -?(nan|inf)"):
        reader.read(b"\0" + message.SerializeToString())


@pytest.mark.parametrize(
    ("sent", "expected"),
    [(0.0, 0), (-0.0, -0.0), (7.0, 7), (-7.0, -7), (2.0**53, 2**53), (2.0**54, 2.0**54), (2.5, 2.5)],
)
def test_a_number_of_any_json_is_whole_where_it_stands_for_no_other(sent: float, expected: float) -> None:
    """JSON knows no doubles: `7` was sent as 7.0, but what lies beyond 2^53 may stand for its neighbour."""
    file = FileDescriptorProto(name="schema.proto", package="a", syntax="proto3")
    file.dependency.append("google/protobuf/struct.proto")
    file.message_type.add(name="M").field.add(
        name="data", number=1, type=11, label=1, type_name=".google.protobuf.Struct"
    )
    message: Any = schemas.build_class(file)()
    message.data["a"] = sent
    found = ProtobufReader(MessageTypes([*schemas.BUILTIN, file])).read(b"\0" + message.SerializeToString())
    assert schemas.agree(found, {"data": {"a": expected}})
    assert schemas.agree(schemas.expect(message), {"data": {"a": expected}})
