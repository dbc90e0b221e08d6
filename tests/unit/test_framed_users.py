"""A user is found in packed values: compressed, or in a registry's frame, by their schema and by their bytes alone."""

from __future__ import annotations

import dataclasses
import io
import json
import secrets
import uuid
from dataclasses import dataclass
from typing import Any

import fastavro
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.errors import RegistryUnavailableError, UnknownSchemaError
from platform_assets.streaming.compression import COMPRESSIONS, Compression
from platform_assets.streaming.formats.frame import frame
from platform_assets.streaming.formats.json_forms import find_no_form, find_read_form
from platform_assets.streaming.formats.registered_schema import RegisteredSchema, SchemaSource
from platform_assets.streaming.formats.varint import write_varint
from platform_assets.streaming.register.forgotten_names import hash_user
from platform_assets.streaming.register.named_users import Mention, find_suspects, judge_fields, judge_record
from platform_assets.streaming.register.sought_names import Sought
from platform_assets.streaming.topic_spec import Topic
from tests.unit.test_registry_values import AS_JSON, TOPIC

NONE, UNSURE, CERTAIN = Mention
SALT = "0f" * 32


@dataclass(frozen=True)
class Registry:
    """Has one schema, with the id 7."""

    schema: str

    def __call__(self, schema_id: int) -> RegisteredSchema:
        if schema_id == 8:
            raise RegistryUnavailableError("It does not answer.")
        if schema_id != 7:
            raise UnknownSchemaError("There is none.")
        return RegisteredSchema(7, "avro", self.schema)


def write(fields: dict[str, str], value: dict[str, Any]) -> tuple[bytes, SchemaSource]:
    schema = {"type": "record", "name": "R", "fields": [{"name": n, "type": of} for n, of in fields.items()]}
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), value)
    return frame(7, out.getvalue()), SchemaSource(Registry(json.dumps(schema)))


def judge(value: bytes, user: str, source: SchemaSource | None = None, topic: Topic = TOPIC) -> Mention:
    """Judges by the name and by its hash, as a record and as a column: all alike; and what is found was suspected."""
    sought, forgotten = Sought.one(user, [topic], source), hash_user(user, SALT)
    by_hash = Sought(
        lambda text: hash_user(text, SALT) == forgotten, frozenset([len(user.encode()), 5]),
        fields=frozenset(topic.roles.user_fields), read_form=find_read_form([topic], source),
    )  # fmt: skip
    found = judge_record(None, value, sought)
    assert judge_record(None, value, by_hash) == found
    # A word in a field of a row may be of a longer text, so that it is not as sure.
    assert min(judge_fields([("value", value)], sought), UNSURE) == min(found, UNSURE)
    assert found == NONE or find_suspects(pa.array([value], pa.binary()), sought, is_raw=True).to_pylist() == [True]
    return found


# 36 signs: in Avro the length before such a text is the letter H, so that no word begins there.
UUID = str(uuid.UUID(int=77))
_FIELDS = {"at": "long", "customer": "string", "note": "string", "blob": "bytes"}


def value_of(customer: str, note: str = "", blob: bytes = b"") -> tuple[bytes, SchemaSource]:
    return write(_FIELDS, {"at": 1, "customer": customer, "note": note, "blob": blob})


@pytest.mark.parametrize("user", ["user-77", UUID, "jürgen@example.org", "x" * 63, "y" * 64, "z" * 200])
def test_a_text_of_any_length_is_found_with_its_schema_and_without(user: str) -> None:
    value, source = value_of(user, "n" * 36)
    assert judge(value, user, source) == judge(value, user) == judge(value[:-2], user, source) == CERTAIN
    in_protobuf = frame(7, b"\0\x0a" + write_varint(len(user.encode())) + user.encode() + b"$" + b"n" * 36)
    assert judge(in_protobuf, user) == CERTAIN
    assert judge(value_of("someone else")[0], user) == NONE


def test_who_is_only_mentioned_is_known_by_the_schema() -> None:
    value, source = value_of("bob", "user-77")
    assert judge(value, "user-77", source) == UNSURE
    assert judge(value, "bob", source) == CERTAIN
    hidden, source = value_of("bob", blob=b'{"user_id": "user-77"}')
    assert judge(hidden, "user-77", source) == UNSURE  # bytes are base64 in the JSON form


def test_a_number_is_found_by_its_schema_only() -> None:
    value, source = write({"customer_id": "long", "quantity": "long"}, {"customer_id": 4711, "quantity": 12})
    assert judge(value, "4711", source) == CERTAIN
    assert judge(value, "12", source) == NONE
    assert judge(value, "4711") == NONE


def test_what_is_no_frame_is_judged_as_before() -> None:
    text = '{"user_id": "user-77"}'
    for value in (text.encode("utf-16-be"), b"\0\0\0\0\x07" + text.encode(), b"\0user-77"):
        assert judge(value, "user-77", SchemaSource(Registry("no schema"))) == CERTAIN


def test_a_value_that_is_made_of_lengths_ends_soon_and_may_be_anybodys() -> None:
    assert judge(frame(7, b"user-77" + b"\x07" * (1 << 22)), "user-77") != NONE
    forgotten = Sought(lambda text: False, frozenset([7]))
    assert judge_record(None, frame(7, b"\x07" * (1 << 22)), forgotten) == UNSURE


def test_a_registry_that_does_not_answer_is_not_taken_for_one_that_has_no_schema() -> None:
    _, source = value_of("bob")
    with pytest.raises(RegistryUnavailableError):
        find_read_form([TOPIC], source)(frame(8, b""))
    assert find_read_form([TOPIC], SchemaSource(source.fetch, unresolved=frozenset([8])))(frame(8, b"")) is None
    assert find_read_form([TOPIC], source)(frame(9, b"")) is None
    assert find_read_form([TOPIC], source)(frame(7, b"\xff")) is None
    assert find_read_form([AS_JSON], source) is find_read_form([TOPIC], None) is find_no_form


@pytest.mark.generated
@given(st.text(min_size=3, max_size=80).filter(lambda t: not t.isdigit()), st.text(), st.binary(max_size=50))
def test_a_name_is_found_in_any_value(user: str, note: str, blob: bytes) -> None:
    if len(user.encode()) < 3 or "\ud800" <= max(user) <= "\udfff":
        return
    value, source = value_of(user, note, blob)
    assert judge_record(None, value, Sought.one(user, [TOPIC], source)) == CERTAIN
    assert judge_record(None, value, Sought.one(user)) == CERTAIN


@pytest.mark.parametrize("codec", COMPRESSIONS)
def test_a_compressed_value_is_searched_unpacked(codec: Compression) -> None:
    topic, framed = (dataclasses.replace(of, compression=codec) for of in (AS_JSON, TOPIC))
    text = json.dumps([{"customer": "user-77"} | {"note": "user-7"} for _ in range(50)]).encode()
    packed = pa.compress(text, codec=codec, asbytes=True)
    assert judge(packed, "user-77", topic=topic) == CERTAIN
    assert judge(packed, "user-78", topic=topic) == NONE
    assert judge(pa.compress(b"cut: {user-77", codec=codec, asbytes=True), "user-77", topic=topic) == CERTAIN
    value, source = value_of("bob", "user-77")
    assert judge(pa.compress(value, codec=codec, asbytes=True), "user-77", source, framed) == UNSURE
    hidden, _ = value_of("bob", blob=b"blah user-77 blah")
    assert judge(pa.compress(hidden, codec=codec, asbytes=True), "user-77", source, framed) == UNSURE
    of_nobody = frame(9, value_of(UUID)[0][5:])
    for unreadable in (of_nobody, value_of(UUID)[0][:-1], value_of(UUID)[0] + b"zz"):
        assert judge(pa.compress(unreadable, codec=codec, asbytes=True), UUID, source, framed) == CERTAIN


@pytest.mark.parametrize("codec", ["gzip", "zstd", "lz4"])
def test_a_compressed_value_that_is_broken_is_searched_as_far_as_it_is_read(codec: str) -> None:
    topic = dataclasses.replace(AS_JSON, compression=codec)  # type: ignore[arg-type]
    text = json.dumps({"user_id": "user-77", "note": secrets.token_hex(3_000)}).encode()
    packed = pa.compress(text, codec=codec, asbytes=True)
    assert judge(packed + b"x", "user-77", topic=topic) != NONE
    if codec == "gzip":
        assert judge(packed[:-8], "user-77", topic=topic) != NONE


def test_names_of_many_lengths_are_not_looked_for_without_end() -> None:
    forgotten = Sought(lambda text: False, frozenset(range(5, 62)))
    for value in (b'{"a":' * 209_715, frame(8, b'{"a":' * 209_715), json.dumps('{"a":' * 200_000).encode()):
        assert judge_record(None, value, forgotten) == UNSURE
