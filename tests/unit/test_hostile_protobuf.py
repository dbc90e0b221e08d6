"""Protobuf bytes of another writer, a newer one, or none: refused or kept, and never guessed. The process goes on."""

from __future__ import annotations

import base64
import random
import resource
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from google.protobuf import descriptor_pool, duration_pb2, timestamp_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from platform_assets.errors import UnknownSchemaError
from platform_assets.streaming.formats import protobuf_files
from platform_assets.streaming.formats.protobuf_schema import ProtobufReader, read_protobuf
from platform_assets.streaming.formats.protobuf_types import MessageTypes
from platform_assets.streaming.formats.reader import SchemaError, UndecodableError
from tests.unit.test_protobuf_schema import EVENT, REFERENCES, declare, one, read, register


def varint(number: int) -> bytes:
    written = bytearray()
    while number > 0x7F:
        written.append((number & 0x7F) | 0x80)
        number >>= 7
    return bytes([*written, number])


def sized(field: int, body: bytes) -> bytes:
    """A field with a length: a text, bytes, a message or a packed list."""
    return varint(field << 3 | 2) + varint(len(body)) + body


@pytest.mark.parametrize(
    ("fields", "body", "said"),
    [
        ("string a = 1;", "0a05 78", "the bytes are no p.M"),
        ("string a = 1;", "0aff ffff ff0f 78", "the bytes are no p.M"),
        ("string a = 1;", "0aff ffff ffff ffff ff7f 78", "the bytes are no p.M"),
        ("string a = 1;", "0a01 7800", "the bytes are no p.M"),
        ("string a = 1;", "0a01 ff", "the bytes are no p.M"),
        ("string a = 1;", "0801", "the field 1 of p.M has a wire type"),
        ("int32 a = 1;", "0a0178", "the field 1 of p.M has a wire type"),
        ("int32 a = 1;", "0d00000000", "the field 1 of p.M has a wire type"),
        ("int32 a = 1;", "0cff", "the bytes are no p.M"),
        ("int32 a = 1;", "0b0c", "the field 1 of p.M has a wire type"),
        ("int32 a = 1;", "08ffffffffffffffffffff01", "the bytes are no p.M"),
        ("int32 a = 1;", "0f01", "the bytes are no p.M"),
        ("map<string, int32> a = 1;", "0a06 0a0178 120179", "a p.M.AEntry has the field 2"),
        ("map<string, int32> a = 1;", "0a05 0a0178 2001", "a p.M.AEntry has the field 4"),
        ("map<string, string> a = 1;", "0a06 0a0178 1201ff", "the bytes are no p.M"),
        ("repeated int32 a = 1;", "0a0180", "the bytes are no p.M"),
    ],
)
def test_bytes_that_are_no_value(fields: str, body: str, said: str) -> None:
    with pytest.raises(UndecodableError, match=said):
        read(one(fields)).read(b"\0" + bytes.fromhex(body))


@pytest.mark.parametrize(
    ("seconds", "nanos"), [(2**40, 0), (-(2**40), 0), (0, -1), (0, 10**9), (253_402_300_800, 0), (2**63 - 1, 2**31 - 1)]
)
def test_what_is_no_moment_is_refused(seconds: int, nanos: int) -> None:
    schema = read(
        'syntax = "proto3"; import "google/protobuf/timestamp.proto"; message M { google.protobuf.Timestamp t = 1; }'
    )
    moment = timestamp_pb2.Timestamp(seconds=seconds, nanos=nanos)
    with pytest.raises(UndecodableError, match="no moment"):
        schema.read(b"\0" + sized(1, moment.SerializeToString()))


@pytest.mark.parametrize(("seconds", "nanos"), [(2**40, 0), (1, -1), (-1, 1), (0, 10**9)])
def test_what_is_no_duration_is_refused(seconds: int, nanos: int) -> None:
    schema = read(
        'syntax = "proto3"; import "google/protobuf/duration.proto"; message M { google.protobuf.Duration t = 1; }'
    )
    duration = duration_pb2.Duration(seconds=seconds, nanos=nanos)
    with pytest.raises(UndecodableError, match="which is none"):
        schema.read(b"\0" + sized(1, duration.SerializeToString()))


@pytest.mark.parametrize(
    ("fields", "body", "name"),
    [
        ("optional string a = 1;", b"\x0a\x01\xff", r"p\.M\.a"),
        ("repeated string a = 1;", b"\x0a\x01\xff", r"p\.M\.a"),
        ("map<string, string> a = 1;", b"\x0a\x03\x0a\x01\xff", r"p\.M\.AEntry\.key"),
        ("map<string, string> a = 1;", b"\x0a\x03\x12\x01\xff", r"p\.M\.AEntry\.value"),
    ],
)
def test_a_text_of_proto2_that_is_no_unicode_is_refused(fields: str, body: bytes, name: str) -> None:
    """The runtime gives bytes in the place of such a text."""
    with pytest.raises(UndecodableError, match=f"{name} is not UTF-8"):
        read(one(fields, "proto2")).read(b"\0" + body)


def test_a_text_of_an_edition_that_checks_none_is_refused() -> None:
    options = "features.utf8_validation = NONE, features.field_presence = IMPLICIT"
    schema = read(f'edition = "2023"; message M {{ string a = 1 [{options}]; }}')
    assert schema.read(b"\0") == {"a": ""}
    with pytest.raises(UndecodableError, match=r"M\.a is not UTF-8"):
        schema.read(b"\0\x0a\x01\xff")


def test_a_required_field_that_is_missing_is_refused_by_name() -> None:
    schema = read(one("optional N n = 1; message N { required int32 r = 1; }", "proto2"))
    assert schema.read(b"\0") == {}
    with pytest.raises(UndecodableError, match=r"required fields of p\.M are missing: n\.r"):
        schema.read(b"\0\x0a\x00")


def test_fields_of_a_newer_writer_are_kept_in_the_order_of_the_bytes() -> None:
    schema = read(one("N n = 1; message N {}"))
    fields = (
        varint(9 << 3) + varint(2**64 - 1) + varint(9 << 3 | 1) + b"\1" + bytes(7) + varint(9 << 3 | 5) + b"\2\0\0\0"
    )
    group = varint(8 << 3 | 3) + varint(1 << 3) + b"\5" + varint(8 << 3 | 4)
    body = fields + sized(9, b"x") + group
    kept = {"#9": [2**64 - 1, 1, 2, b"x"], "#8": [{"#1": [5]}]}
    assert schema.read(b"\0" + sized(1, body) + body) == {"n": kept, **kept}


def test_extensions_are_fields_of_no_name() -> None:
    text = 'syntax = "proto2"; message M { extensions 5; } extend M { optional int32 x = 5; }'
    assert read(text).read(b"\0\x28\x07") == {"#5": [7]}


def test_numbers_that_a_closed_enum_has_not_keep_their_place() -> None:
    """The runtime moves them behind the fields that it knows, and forgets where in a list or a map they stood."""
    schema = read(one("repeated E a = 1; optional E b = 2; map<string, E> c = 3;", "proto2"))
    found = schema.read(b"\0\x08\x01\x08\x07\x08\x00\x10\x09" + sized(3, b"\x0a\x01x\x10\x08"))
    assert found == {"a": ["B", 7, "A"], "b": 9, "c": {"x": 8}}


def test_names_that_a_class_has_for_itself_are_names_of_fields() -> None:
    names = ("HasField", "DESCRIPTOR", "ListFields", "FromString", "IsInitialized", "FindInitializationErrors", "mro")
    fields = " ".join(f"optional string {name} = {number};" for number, name in enumerate(names, 1))
    schema = read(one(f"{fields} required int32 r = 50; message N {{}}", "proto2"))
    body = b"".join(sized(number, name.encode()) for number, name in enumerate(names, 1))
    assert schema.read(b"\0" + body + varint(50 << 3) + b"\1") == {**{name: name for name in names}, "r": 1}
    with pytest.raises(UndecodableError, match=r"required fields of p\.M are missing: r"):
        schema.read(b"\0" + body)


def test_values_are_read_by_the_version_that_wrote_them() -> None:
    """What a version changes, its own reader knows: a number, a type, a name, an enum's value."""
    first = read(one("int32 count = 1; string who = 2; E e = 3;"))
    second = read('syntax = "proto3"; package p; message M { string count = 1; string who = 4; optional E e = 3; } '
                  "enum E { A = 0; B = 1; C = 2; }")  # fmt: skip
    value = b"\0" + declare(second, "p.M")(count="7", who="x", e=2).SerializeToString()
    assert second.read(value) == {"count": "7", "who": "x", "e": "C"}
    with pytest.raises(UndecodableError, match=r"the field 1 of p\.M has a wire type"):
        first.read(value)
    renumbered = b"\0" + declare(second, "p.M")(who="x", e=2).SerializeToString()
    assert first.read(renumbered) == {"count": 0, "who": "", "e": 2, "#4": [b"x"]}


@pytest.mark.parametrize("depth", [90, 10_000])
def test_messages_in_messages_without_end(depth: int) -> None:
    schema = read(
        'syntax = "proto3"; import "google/protobuf/struct.proto"; message M { M m = 1; google.protobuf.Value v = 2; }'
    )
    body, value = b"", b""
    for _ in range(depth):
        body = sized(1, body)
    for _ in range(depth // 2):
        value = sized(6, sized(1, value))
    for nested in (body, sized(2, value), b"\x53" * depth + b"\x54" * depth):
        if depth < 100:
            assert schema.read(b"\0" + nested)
            continue
        with pytest.raises(UndecodableError):
            schema.read(b"\0" + nested)


def test_an_any_in_an_any_without_end() -> None:
    """Each is parsed by itself, so that the runtime's own limit does not hold."""
    schema = read('syntax = "proto3"; import "google/protobuf/any.proto"; message M { google.protobuf.Any a = 1; }')
    body = b""
    for _ in range(3000):
        body = sized(1, sized(1, b"/M") + sized(2, body))
    with pytest.raises(UndecodableError, match="nested too deeply"):
        schema.read(b"\0" + body)


def test_an_any_of_a_broken_message_is_refused() -> None:
    schema = read('syntax = "proto3"; import "google/protobuf/any.proto"; message M { google.protobuf.Any a = 1; }')
    assert schema.read(b"\0" + sized(1, sized(1, b"x/unknown.Type") + sized(2, b"\xff"))) == {
        "a": {"@type": "x/unknown.Type", "value": b"\xff"}
    }
    with pytest.raises(UndecodableError, match="the bytes are no M"):
        schema.read(b"\0" + sized(1, sized(1, b"x/M") + sized(2, b"\xff")))


def test_few_bytes_do_not_fill_the_memory() -> None:
    """An object of 200 fields that are absent takes two bytes in a list, and kilobytes when it is read."""
    fields = " ".join(f"int64 f{number} = {number};" for number in range(2, 202))
    schema = read('syntax = "proto3"; import "google/protobuf/any.proto"; message M { repeated N n = 1; '
                  f"google.protobuf.Any a = 2; }} message N {{ {fields} repeated N n = 1; }}")  # fmt: skip
    many = b"\x0a\x00" * 50_000
    inside = sized(2, sized(1, b"x/M") + sized(2, many))
    tracemalloc.start()
    try:
        for body in (many, sized(1, many), inside):
            with pytest.raises(UndecodableError, match="more than 2000000 members"):
                schema.read(b"\0" + body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 60_000_000
    assert len(schema.read(b"\0" + b"\x0a\x00" * 5_000)["n"]) == 5_000


def test_a_length_that_is_not_there_takes_no_memory() -> None:
    schema = read(one("bytes a = 1; repeated fixed64 b = 2 [packed = true];"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for field in (1, 2):
        with pytest.raises(UndecodableError):
            schema.read(b"\0" + varint(field << 3 | 2) + varint(2**31 - 1) + b"x" * 10)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_a_compiler_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protobuf_files, "_PROGRAM", "import time; time.sleep(60)")
    monkeypatch.setattr(protobuf_files, "_TIMEOUT_SECONDS", 0.3)
    with pytest.raises(UnknownSchemaError, match="not compiled within"):
        read(one("string hanging = 1;"))


def test_a_compiler_that_crashes_takes_nobody_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protobuf_files, "_PROGRAM", "import os; os.abort()")
    with pytest.raises(SchemaError, match="protoc ended with -6"):
        read(one("string crashing = 1;"))


def test_descriptors_that_are_broken_do_not_end_the_process() -> None:
    """The runtime takes a compiled schema in the worker's own process: a child tries what changed bytes do to it."""
    program = """
import random
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message import DecodeError
from platform_assets.streaming.formats.protobuf_schema import ProtobufReader
from platform_assets.streaming.formats.protobuf_types import MessageTypes
from platform_assets.streaming.formats.reader import SchemaError, UndecodableError
from tests.unit.test_hostile_protobuf import build_file
good, rng = build_file().SerializeToString(), random.Random(7)
read = 0
for _ in range(3000):
    body = bytearray(good)
    for _ in range(rng.randint(1, 3)):
        body[rng.randrange(len(body))] = rng.randrange(256)
    try:
        reader = ProtobufReader(MessageTypes([FileDescriptorProto.FromString(bytes(body))]))
        reader.read(b"\\0" + rng.randbytes(rng.randint(0, 8)))
        read += 1
    except (DecodeError, SchemaError, UndecodableError, UnicodeDecodeError):
        continue  # the compiler has refused names that are no Unicode
print(read)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 0


def test_serialized_descriptors_with_changed_bytes_are_schemas_or_refused() -> None:
    good, rng = build_file().SerializeToString(), random.Random(3)
    refused = 0
    for _ in range(25):
        body = bytearray(good)
        body[rng.randrange(len(body))] = rng.randrange(256)
        try:
            read(base64.b64encode(body).decode()).find((0,))
        except SchemaError:
            refused += 1
    assert 0 < refused < 25


def build_file() -> FileDescriptorProto:
    file = FileDescriptorProto(name="m.proto", package="a", syntax="proto3")
    message = file.message_type.add(name="M")
    for number, kind in enumerate((1, 3, 5, 9, 12, 14, 11), 1):
        field = message.field.add(name=f"f{number}", number=number, type=kind, label=1 + 2 * (number % 2))
        field.type_name = {14: ".a.E", 11: ".a.M"}.get(kind, "")
        if not field.type_name:
            field.ClearField("type_name")
    file.enum_type.add(name="E").value.add(name="A", number=0)
    return file


def test_values_of_a_real_schema_with_changed_bytes() -> None:
    schema = read_protobuf(register(EVENT, *REFERENCES))
    message = declare(schema, "shop.v1.Event")(event_id="e1", user=5, kind=2, count=3, ratio=1.5)
    message.items.add(sku="a")
    message.by_name["x"].cents = 7
    message.extra.update({"a": [1, {"b": None}]})
    message.address.street = "s"
    good, rng = message.SerializeToString(), random.Random(5)
    refused = 0
    for _ in range(20_000):
        body = bytearray(good)
        for _ in range(rng.randint(1, 4)):
            body[rng.randrange(len(body))] = rng.randrange(256)
        try:
            assert isinstance(schema.read(b"\0" + bytes(body[: rng.randint(1, len(body))])), dict)
        except UndecodableError:
            refused += 1
    assert 5_000 < refused < 20_000


def test_the_pool_of_a_schema_is_its_own() -> None:
    """Two versions of a schema declare the same names, and neither is known to anybody else."""
    for fields in ("string a = 1;", "int32 a = 1;"):
        read(one(fields))
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindMessageTypeByName("p.M")
    assert isinstance(ProtobufReader(MessageTypes([build_file()])), ProtobufReader)
