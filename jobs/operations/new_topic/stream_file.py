"""Writes the files that stand next to a topic's own: a first stream over it, and its group."""

from __future__ import annotations

from collections.abc import Iterable

from jobs.operations.new_topic.draft import Draft
from jobs.operations.new_topic.field_names import name_class
from jobs.operations.new_topic.literals import quote

# A trigger of its own: queries that trigger at the same moment wait for each other's planning.
_PRIMES = (17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97)


def name_stream(draft: Draft) -> str:
    """The name of the first stream, and of its table and file."""
    return f"{draft.name}_by_{draft.group_by or 'window'}"


def choose_trigger(taken: Iterable[float | None]) -> float:
    """A number of seconds that no other stream has, if there is one."""
    used = set(taken)
    return float(next((prime for prime in _PRIMES if prime not in used), _PRIMES[-1]))


def write_stream(draft: Draft, trigger_seconds: float) -> str:
    """The text of `platform_assets/streams/<name>.py`: records of five-minute windows by a field, or in all."""
    name, by = name_stream(draft), draft.group_by
    rows = f"{name_class(draft.name, (), is_plural=False)}"
    kind = next((_COLUMNS.get(each.type.python, "string") for each in draft.fields if each.name == by), "")
    values = {
        "name": name, "upper": name.upper(), "topic": draft.name, "topic_upper": draft.name.upper(), "rows": rows,
        "trigger": trigger_seconds, "by": by or "",
        "said": f" by {by}" if by else "",
        "grain": f"window x {by} with at least one record" if by else "window with at least one record",
        "key": f'("window_start", "window_end", {quote(by)})' if by else '("window_start", "window_end")',
        "column": f"        Column({quote(by)}, {quote(kind)}, {quote(_describe(draft, by))}),\n" if by else "",
        "group": f", {quote(by)}" if by else "",
        "select": f"            {quote(by)},\n" if by else "",
        "sql": f'"{by}", ' if by else "",
        "columns": f'("event_time", {quote(by)})' if by else '("event_time",)',
    }  # fmt: skip
    return _STREAM.format(**values)


def write_group(draft: Draft) -> str:
    """The text of `platform_assets/groups/<name>.py`."""
    return (
        f'"""Group `{draft.name}`: the topic, and every stream over it."""\n\n'
        "from __future__ import annotations\n\n"
        "from platform_assets.streaming.stream_spec import Group\n\n"
        f'GROUP = Group(name="{draft.name}", topics=("{draft.name}",))\n'
    )


_COLUMNS = {"str": "string", "bool": "boolean", "date": "date", "datetime": "timestamp"}


def _describe(draft: Draft, name: str) -> str:
    field = next(each for each in draft.fields if each.name == name)
    return field.description + ("" if field.is_required else "; null where none was sent")


_STREAM = '''"""Records of `{topic}` in windows of five minutes{said}, shown while open."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from platform_assets.streaming.result_span import ResultSpan, in_words
from platform_assets.streaming.stream_spec import TableSource, TableStream
from platform_assets.tables.spec import Column, TableSpec
from platform_assets.topics.{topic} import {topic_upper}

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

WINDOW = timedelta(minutes=5)

{upper} = TableSpec(
    name="gold.{name}",
    description="Records of {topic} in a five-minute window{said}.",
    grain="{grain}",
    key={key},
    columns=(
        Column("window_start", "timestamp", "First moment of the window, UTC"),
        Column("window_end", "timestamp", "First moment after the window, UTC"),
{column}        Column("record_count", "bigint", "Records"),
    ),
    statistics_columns=("window_start", "window_end"),
)


def count_records(records: DataFrame) -> DataFrame:
    """Records of each window. Takes the columns of `STREAM.source`; returns rows of the table."""
    from pyspark.sql import functions as F

    return (
        records.groupBy(F.window("event_time", in_words(WINDOW)).alias("time_window"){group})
        .agg(F.count("*").alias("record_count"))
        .select(
            F.col("time_window.start").alias("window_start"),
            F.col("time_window.end").alias("window_end"),
{select}            "record_count",
        )
    )


# The rows once more, for the check `parity`.
RULE = """
    SELECT time_bucket(INTERVAL '5 minutes', event_time) AS window_start,
           time_bucket(INTERVAL '5 minutes', event_time) + INTERVAL '5 minutes' AS window_end,
           {sql}count(*) AS record_count
    FROM events GROUP BY ALL"""

STREAM = TableStream(
    name="{name}",
    source=TableSource(
        table={topic_upper},
        columns={columns},
        time_column="event_time",
        watermark_delay=timedelta(minutes=5),
    ),
    tables=({upper},),
    trigger_seconds={trigger},
    transform=count_records,
    rule=RULE,
    write_mode="upsert",
    span=ResultSpan("window_start", "window_end", reach=WINDOW, window=(WINDOW, WINDOW)),
)
'''
