"""Change events that schemas of a registry wrote: as their JSON, whatever the registry answers."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings

from platform_assets.errors import RegistryUnavailableError, SettingError, UnknownSchemaError
from platform_assets.streaming.change_events import ChangeEvents
from platform_assets.streaming.event_rules import EventRules
from platform_assets.streaming.formats.frame import frame
from platform_assets.streaming.formats.registered_schema import RegisteredSchema, SchemaSource, SeenSchemas
from platform_assets.streaming.ingest.record_parser import parse_batch
from tests.accounts import BEGIN, TOPIC, Database, Sent, histories
from tests.registered_accounts import ENVELOPE, KEY, as_avro, write

REGISTERED = dataclasses.replace(TOPIC, values=ChangeEvents(key=("id",), is_registered=True))
NOON = int((BEGIN + timedelta(hours=1)).timestamp() * 1_000_000)
KEY_ID, VALUE_ID, UNKNOWN_ID = 1, 2, 9
_TEXTS = {KEY_ID: json.dumps(KEY), VALUE_ID: json.dumps(ENVELOPE)}


@dataclasses.dataclass(frozen=True)
class Registry:
    """A registry's answers. Ids in `silent` get none."""

    silent: frozenset[int] = frozenset()

    def __call__(self, schema_id: int) -> RegisteredSchema:
        if schema_id in self.silent:
            raise RegistryUnavailableError("The registry does not answer.")
        if schema_id not in _TEXTS:
            raise UnknownSchemaError(f"The registry has no schema {schema_id}.")
        return RegisteredSchema(schema_id, "avro", _TEXTS[schema_id])


def parse(
    events: Sequence[Sent], source: SchemaSource | None, topic: Any = REGISTERED, max_bytes: int = 100_000
) -> pa.Table:
    batch = pa.record_batch(
        {
            "key": pa.array([each.key for each in events], pa.binary()),
            "value": pa.array([each.value for each in events], pa.binary()),
            "partition": pa.array([0] * len(events), pa.int32()),
            "offset": pa.array(range(len(events)), pa.int64()),
            "timestamp": pa.array([BEGIN] * len(events), pa.timestamp("us", tz="UTC")),
        }
    )
    return pa.Table.from_batches([parse_batch(batch, topic, NOON, max_bytes, EventRules(), source)])


@given(histories())
@settings(max_examples=40)
def test_what_a_registry_wrote_is_as_its_json(database: Database) -> None:
    if not database.events:
        return
    events = [each if each.value is None else _unwrap(each) for each in database.events]
    found = parse([as_avro(each, KEY_ID, VALUE_ID) for each in events], SchemaSource(Registry())).to_pylist()
    wanted = parse(events, None, TOPIC).to_pylist()
    for one, other in zip(found, wanted, strict=True):
        sources = [json.loads(row.pop("change_source") or "null") for row in (one, other)]
        assert sources[0] == sources[1]
        assert one["_reason"] is None and one == other


def _unwrap(sent: Sent) -> Sent:
    event = json.loads(sent.value or b"")
    return dataclasses.replace(sent, value=json.dumps(event.get("payload", event)).encode())


def build_events() -> list[Sent]:
    database = Database()
    database.put(1, 5, "a")
    database.delete(1)
    return [as_avro(each, KEY_ID, VALUE_ID) for each in database.events]


def test_what_cannot_be_opened_has_a_reason_and_a_tombstone_that_of_its_key() -> None:
    created, _, tombstone = build_events()
    assert created.value is not None
    odd = [
        dataclasses.replace(created, value=created.value[:-4]),
        dataclasses.replace(created, value=b"{}"),
        dataclasses.replace(created, value=frame(UNKNOWN_ID, b"x")),
        dataclasses.replace(tombstone, key=b'{"id": 1}'),
        dataclasses.replace(tombstone, key=frame(UNKNOWN_ID + 1, b"x")),
        dataclasses.replace(created, value=write(KEY, KEY_ID, {"id": 1})),
    ]
    seen = SeenSchemas()
    rows = parse([created, *odd, tombstone], SchemaSource(Registry(), seen=seen))
    assert rows["_reason"].to_pylist() == [
        None, "not_decodable", "not_framed", "unknown_schema", "not_framed", "unknown_schema", "missing_field", None,
    ]  # fmt: skip
    assert seen.unresolved == {UNKNOWN_ID, UNKNOWN_ID + 1}
    assert rows["_value"].to_pylist()[1:3] == [created.value[:-4], b"{}"], "the bytes are kept as they were sent"
    assert rows["_key"].to_pylist()[4] == b'{"id": 1}'


def test_a_registry_that_is_away_is_waited_for_or_what_it_lacks_stays_refused() -> None:
    events = build_events()
    with pytest.raises(RegistryUnavailableError):
        parse(events, SchemaSource(Registry(frozenset([KEY_ID]))))
    seen = SeenSchemas()
    first = parse(events, SchemaSource(Registry(frozenset([KEY_ID])), quarantines=True, seen=seen))
    assert first["_reason"].to_pylist() == [None, None, "unknown_schema"]
    again = parse(events, SchemaSource(Registry(), quarantines=True, unresolved=frozenset(seen.unresolved)))
    assert again["_reason"].to_pylist() == [None, None, "unknown_schema"], "as when the batch first ran"
    with pytest.raises(SettingError, match="HEADRACE_SCHEMA_REGISTRY_URL"):
        parse(events, None)


def test_the_size_is_that_of_the_bytes_that_were_sent() -> None:
    """Their JSON is longer."""
    (created, *_) = build_events()
    assert created.value is not None
    assert parse([created], SchemaSource(Registry()), max_bytes=len(created.value))["_reason"].to_pylist() == [None]
    small = parse([created], SchemaSource(Registry()), max_bytes=len(created.value) - 1)
    assert small["_reason"].to_pylist() == ["oversized"]
