"""`headrace remove-absent`: current rows that a complete snapshot of their source did not contain.

They were deleted while the connector was away, and no change says so. Each gets a delete event in the topic, which
stands right before the snapshot: so all that reads the topic agrees, and a row of the snapshot, or a later change, wins
whenever it is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from platform_assets.errors import UsageError
from platform_assets.streaming.change_events import ChangeEvents
from platform_assets.streaming.stream_spec import KafkaStream, Stream, TableStream, select_derived, select_ingest
from platform_assets.streaming.topic_spec import Topic

if TYPE_CHECKING:
    import duckdb
    from confluent_kafka import Producer
    from deltalake import DeltaTable

# Debezium's mark of the last row that a snapshot has of a table, and of all tables.
_MARKS = ("last_in_data_collection", "last")
_KINDS = ("text", "int", "enum")


@dataclass(frozen=True)
class AbsentRows:
    """Rows whose latest change is older than the newest complete snapshot, which did not contain them.

    `keys` have the fields of the key, by field. `position` and `source` are the snapshot's, `taken_at` its time.
    """

    position: str
    source: str
    taken_at: datetime
    keys: Sequence[dict[str, Any]]


def choose_streams(streams: Sequence[Stream], name: str) -> tuple[KafkaStream, TableStream]:
    """A topic's stream, and that of its current rows. Raises `UsageError` where no deletes can be sent for it."""
    stream = next((each for each in select_ingest(streams) if each.name == name), None)
    tables = (each for each in select_derived(streams) if each.is_latest)
    current = next((each for each in tables if stream and each.source.table.name == stream.tables[0].name), None)
    if stream is None or current is None:
        raise UsageError(
            f"{name} is no topic with current rows among those of HEADRACE_GROUPS (docs/change-events.md)."
        )
    values = stream.topic.values
    assert isinstance(values, ChangeEvents), "Only change events have current rows."
    if values.is_registered or stream.topic.compression is not None:
        raise UsageError(f"The changes of {name} are no plain JSON: send the deletes by your own producer.")
    if odd := [each.name for each in stream.topic.fields if each.name in values.key and each.kind not in _KINDS]:
        raise UsageError(f"{odd[0]} is of the key, and no text or whole number: send the deletes by your own producer.")
    return stream, current


def find_absent(
    connection: duckdb.DuckDBPyConnection, current: TableStream, changes: DeltaTable, table: DeltaTable
) -> AbsentRows | None:
    """Reads both tables, which are registered with the connection; None where no snapshot was read to its end.

    Raises `UsageError` where the topic has the rows of several tables, each with snapshots of its own, and for a source
    whose snapshots have no place right before theirs: the rows of one need not have one place there.
    """
    from platform_assets.delta_reader import register_pinned
    from platform_assets.streaming.delta.delta_tables import build_arrow_schema

    register_pinned(connection, "changes", changes, columns=build_arrow_schema(current.source.table))
    register_pinned(connection, "present", table, columns=build_arrow_schema(current.main_table))
    found = connection.sql(
        "SELECT change_position, change_source, event_time, kafka_timestamp FROM changes "
        "WHERE change_operation = 'snapshot' "
        "AND json_valid(change_source) AND list_contains(?, json_extract_string(change_source, '$.snapshot')) "
        "ORDER BY change_position DESC LIMIT 1",
        params=[list(_MARKS)],
    ).to_arrow_table()
    if not len(found):
        return None
    (snapshot,) = found.to_pylist()
    position, source, taken_at, sent_at = snapshot.values()
    _step_back(msgspec.json.decode(source))
    _require_one_table(connection)
    key = ", ".join(f'"{name}"' for name in current.main_table.key)
    # A transaction that was open when the snapshot was taken is not in it, and has places before it in Postgres' log.
    # Its changes are sent when the snapshot is over.
    rows = connection.sql(
        f"SELECT {key} FROM present ANTI JOIN (SELECT kafka_partition, kafka_offset FROM changes WHERE "
        "kafka_timestamp > ?) USING (kafka_partition, kafka_offset) "
        "WHERE NOT is_deleted AND change_position < ? ORDER BY ALL",
        params=[sent_at, position],
    ).to_arrow_table()
    return AbsentRows(position, source, taken_at, rows.to_pylist())


def _require_one_table(connection: duckdb.DuckDBPyConnection) -> None:
    tables = connection.sql(
        "SELECT DISTINCT json_extract_string(change_source, ['$.db', '$.schema', '$.table']) AS name FROM changes "
        "WHERE json_valid(change_source) ORDER BY ALL LIMIT 2"
    ).fetchall()
    if len(tables) > 1:
        first, second = (".".join(filter(None, name)) for (name,) in tables)
        raise UsageError(
            f"The topic has rows of several tables ({first}, {second}), and a snapshot ends for each by itself: send "
            "the deletes by your own producer."
        )


def build_deletes(topic: Topic, absent: AbsentRows) -> Iterator[tuple[bytes, bytes]]:
    """Key and value of a delete event for each row. Raises `UsageError` for a source whose places have none before."""
    source = _step_back(msgspec.json.decode(absent.source))
    fields = {each.name: each for each in topic.fields}
    for key in absent.keys:
        row = {fields[name].path[0]: int(value) if fields[name].kind == "int" else value for name, value in key.items()}
        event = {"before": row, "after": None, "source": source, "op": "d", "ts_ms": source["ts_ms"]}
        yield msgspec.json.encode(row), msgspec.json.encode(event)


def _step_back(source: dict[str, Any]) -> dict[str, Any]:
    """The place right before a snapshot's, at which no change of the source's own is: no record has one byte."""
    place = "lsn" if source.get("lsn") is not None else "pos"
    if type(source.get(place)) is not int or source[place] < 1:
        raise UsageError("Only snapshots of Postgres, MySQL and MariaDB have a place right before theirs.")
    times = {name: source[name] for name in ("ts_ms", "ts_us", "ts_ns") if source.get(name)}
    return {**source, "ts_ms": None, **times, place: source[place] - 1, "snapshot": "false"}


def send_deletes(producer: Producer, kafka_topic: str, deletes: Iterator[tuple[bytes, bytes]]) -> None:
    """Sends them, and waits until the broker has them all. Raises `BrokerUnavailableError`; a second try is safe."""
    from jobs.simulator.producer import send_records

    send_records(((0, key, value) for key, value in deletes), producer, kafka_topic).raise_if_failed()
