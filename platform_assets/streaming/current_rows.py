"""The rows of a source's table as they are now: a stream that each topic of change events may have."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from platform_assets.streaming.change_events import FACTS, OPERATION, POSITION, ChangeEvents
from platform_assets.streaming.result_span import ResultSpan
from platform_assets.streaming.stream_spec import TableSource, TableStream
from platform_assets.streaming.topic_spec import Topic
from platform_assets.tables.spec import Column, TableSpec

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_CHANGED_AT, _DELETED = "changed_at", "is_deleted"
_UNKNOWN = "unknown_fields"
_PLACES = ("kafka_partition", "kafka_offset")
LATEST_BY = (POSITION, *_PLACES)
"""By what a change is later than another one of its row: a change that is sent again has the same position."""


def build_current_rows(topic: Topic, trigger_seconds: float | None = None) -> TableStream:
    """The stream `current_<topic>`, which keeps `silver.current_<topic>`: one row a key, as its latest change left it.

    A row that is gone stays as its key alone, with `is_deleted`, so that an older change of it that comes later changes
    nothing. Raises `ValueError` for a topic without change events, or whose subject is not of the key: when a user
    was forgotten, rows that are somebody else's by now would show who had them before.
    """
    if not isinstance(topic.values, ChangeEvents):
        raise ValueError(f"{topic.name} has no change events (values=ChangeEvents(...)), so it has no current rows.")
    key, changes = topic.values.key, topic.tables[0]
    if topic.subject is not None and topic.subject not in key:
        raise ValueError(
            f"The current rows of {topic.name} need a subject that is of the key, and {topic.subject} is not: of a row "
            "that went from one person to another, forgetting one would bring back the row of the other."
        )
    if taken := {_CHANGED_AT, _DELETED} & {column.name for column in changes.columns}:
        raise ValueError(f"The current rows of {topic.name} have a column {min(taken)} of their own: rename the field.")
    table = _build_table(topic, key)
    rest = tuple(c.name for c in table.columns if c.name not in (*key, *LATEST_BY, _CHANGED_AT, _DELETED))
    columns = (*key, *rest, OPERATION, *LATEST_BY)
    return TableStream(
        name=f"current_{topic.name}",
        source=TableSource(changes, (*columns, "event_time"), "event_time", timedelta(0)),
        tables=(table,),
        transform=lambda rows: _select(rows, key, rest),
        span=ResultSpan(
            _CHANGED_AT, _CHANGED_AT, reach=timedelta(0), by_user=topic.subject is not None,
            user_column=topic.subject or "user_id",
        ),
        rule=_write_rule(key, rest),
        write_mode="latest",
        latest_by=LATEST_BY,
        trigger_seconds=trigger_seconds,
    )  # fmt: skip


def _build_table(topic: Topic, key: Sequence[str]) -> TableSpec:
    changes = {column.name: column for column in topic.tables[0].columns}
    own = [each.name for each in topic.fields if each.name not in (*FACTS, *topic.added_fields)]
    ordered = [*key, *(name for name in own if name not in key)]
    return TableSpec(
        name=f"silver.current_{topic.name}",
        description=f"Rows of the source of {topic.tables[0].name} as they are now; of those that are gone, the keys.",
        grain="primary key",
        key=tuple(key),
        columns=(
            *(changes[name] for name in ordered),
            changes[_UNKNOWN],
            Column(_CHANGED_AT, "timestamp", "When the source committed the row's latest change, UTC"),
            changes[POSITION],
            *(changes[name] for name in _PLACES),
            Column(_DELETED, "boolean", "Whether the row is gone; of its fields only the key is not null then"),
            *(changes[name] for name in topic.added_fields),
        ),
        statistics_columns=(_CHANGED_AT,),
    )


def _select(rows: DataFrame, key: Sequence[str], rest: Sequence[str]) -> DataFrame:
    from pyspark.sql import functions as F

    is_gone = F.col(OPERATION) == "delete"
    return rows.where(F.col(OPERATION) != "tombstone").select(
        *key,
        *(F.when(~is_gone, F.col(name)).alias(name) for name in rest),
        F.col("event_time").alias(_CHANGED_AT),
        *LATEST_BY,
        is_gone.alias(_DELETED),
    )


def _write_rule(key: Sequence[str], rest: Sequence[str]) -> str:
    of_key = ", ".join(f'"{name}"' for name in key)
    values = ", ".join(f'CASE WHEN {OPERATION} <> \'delete\' THEN "{name}" END AS "{name}"' for name in rest)
    ordered = ", ".join(f"{name} DESC" for name in LATEST_BY)
    return f"""
        SELECT {of_key}, {values}, event_time AS {_CHANGED_AT}, {", ".join(LATEST_BY)},
               {OPERATION} = 'delete' AS {_DELETED}
        FROM (SELECT *, row_number() OVER (PARTITION BY {of_key} ORDER BY {ordered}) AS _place
              FROM events WHERE {OPERATION} <> 'tombstone')
        WHERE _place = 1"""
