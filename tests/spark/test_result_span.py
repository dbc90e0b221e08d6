"""What a row spans, when it is final and what an event touches: one rule in plain Python, and in each dialect."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from platform_assets.streaming.result_span import (
    Engine,
    ResultSpan,
    as_moment,
    count_refused,
    has_ended,
    is_comparable,
    is_continued,
    is_near,
    is_touched,
    overlap,
    reaches_out,
)
from platform_assets.streaming.stream_spec import select_derived
from platform_assets.streams import load_streams

MICRO, MINUTE, DAY = timedelta(microseconds=1), timedelta(minutes=1), timedelta(days=1)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
START = NOON - 3 * DAY
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
CASES = 400
SPANS = {stream.name: stream.span for stream in select_derived(load_streams())} | {
    "whole_microseconds": ResultSpan("begins", "ends", reach=3 * MICRO, inactivity=5 * MICRO, by_user=True)
}


@dataclass(frozen=True)
class Case:
    """A row, another one, and an event of somebody."""

    user: str
    start: datetime
    end: datetime
    other_start: datetime
    other_end: datetime
    event_user: str
    event: datetime


def build_cases(span: ResultSpan) -> list[Case]:
    """Moments at the limits of the rules and a microsecond next to them, and any others."""
    rng = random.Random(str(span))
    pause, reach = span.inactivity, span.reach
    steps = [timedelta(0), pause, -pause, reach, -reach, pause + reach, 4 * pause, DAY, -DAY, MINUTE * 7]

    def near(moment: datetime) -> datetime:
        return moment + rng.choice(steps) + rng.choice([-MICRO, timedelta(0), MICRO])

    cases = []
    for _ in range(CASES):
        start = near(rng.choice([NOON, NOON.replace(hour=0), START + span.comparable_after]))
        end = start + abs(near(start) - start)
        other = near(rng.choice([start, end]))
        event = near(rng.choice([start, end]))
        cases.append(
            Case(rng.choice("ab"), start, end, other, other + abs(near(other) - other), rng.choice("ab"), event)
        )
    return cases


def as_table(cases: list[Case], span: ResultSpan) -> pa.Table:
    times = pa.timestamp("us", tz="UTC")
    return pa.table(
        {
            "user_id": [case.user for case in cases],
            span.start_column: pa.array([case.start for case in cases], times),
            span.end_column: pa.array([case.end for case in cases], times),
            "other_start": pa.array([case.other_start for case in cases], times),
            "other_end": pa.array([case.other_end for case in cases], times),
            "event_user": [case.event_user for case in cases],
            "event_time": pa.array([case.event for case in cases], times),
            "number": range(len(cases)),
        }
    )


def ask_duckdb(rows: pa.Table, relation: str, conditions: list[str]) -> list[list[bool]]:
    with duckdb.connect() as connection:
        connection.execute("SET timezone = 'America/New_York'")
        connection.register("cases", rows)
        found = connection.sql(f"SELECT {', '.join(conditions)} FROM ({relation}) ORDER BY number").fetchall()
    return [list(row) for row in found]


def ask_spark(spark: SparkSession, rows: pa.Table, relation: str, conditions: list[str]) -> list[list[bool]]:
    spark.createDataFrame(rows).createOrReplaceTempView("cases")
    found = spark.sql(f"SELECT {', '.join(conditions)} FROM ({relation}) ORDER BY number").collect()
    spark.catalog.dropTempView("cases")
    return [list(row) for row in found]


def build_relation(span: ResultSpan, engine: Engine) -> str:
    """The cases as a row `r`, another row `o` and an event `l`."""
    start, end = span.start_column, span.end_column
    structs = {
        "r": {"user_id": "user_id", start: start, end: end},
        "o": {"user_id": "user_id", start: "other_start", end: "other_end"},
        "l": {"user_id": "event_user", "event_time": "event_time"},
    }
    pack = "struct_pack({})" if engine == "duckdb" else "named_struct({})"
    field = "{} := {}" if engine == "duckdb" else "'{}', {}"
    columns = (
        f"{pack.format(', '.join(field.format(*pair) for pair in fields.items()))} AS {name}"
        for name, fields in structs.items()
    )
    return f"SELECT number, {', '.join(columns)} FROM cases"


def judge(case: Case, span: ResultSpan, start: datetime | None) -> list[bool]:
    """Judges in plain Python, in the order of `conditions_of`."""
    pause, is_same = span.inactivity, case.user == case.event_user
    if span.of_pairs:
        is_at = case.event in (case.start, case.end)
    else:
        is_at = case.start - pause <= case.event <= case.end + pause
    has_all = start is None or case.start > start + span.reach + pause + (span.longest or timedelta(0))
    return [
        case.end + pause <= NOON,
        case.end + pause <= NOON and has_all and not is_part_to_come(case, span),
        is_at and (is_same or not span.by_user),
        is_same and case.end <= case.event <= case.end + pause,
        case.start <= case.other_end and case.end >= case.other_start,
    ]


def is_part_to_come(case: Case, span: ResultSpan) -> bool:
    if span.longest is None:
        return False
    since_limit, until_limit = (case.start - EPOCH) % span.longest, span.longest - (case.end - EPOCH) % span.longest
    is_at_limit = since_limit <= span.inactivity or until_limit <= span.inactivity
    return is_at_limit and case.end > NOON - span.longest - 4 * span.inactivity


def conditions_of(span: ResultSpan, start: datetime | None, engine: Engine) -> list[str]:
    return [
        has_ended(span, "r", as_moment(NOON, engine)),
        is_comparable(span, "r", NOON, start, engine),
        is_touched(span, "r", "l"),
        is_continued(span, "r", "l"),
        overlap(span, "r", "o"),
    ]


@pytest.fixture(params=SPANS)
def span(request: pytest.FixtureRequest) -> ResultSpan:
    return SPANS[request.param]


@pytest.mark.parametrize("start", [None, START])
def test_sql_says_what_python_says(spark: SparkSession, span: ResultSpan, start: datetime | None) -> None:
    cases = build_cases(span)
    rows, right = as_table(cases, span), [judge(case, span, start) for case in cases]
    ask: dict[Engine, Callable[[str, list[str]], list[list[bool]]]] = {
        "duckdb": lambda relation, conditions: ask_duckdb(rows, relation, conditions),
        "spark": lambda relation, conditions: ask_spark(spark, rows, relation, conditions),
    }
    for engine, answer in ask.items():
        found = answer(build_relation(span, engine), conditions_of(span, start, engine))
        assert found == right, engine
    # Each rule is met in both ways, or the cases would show nothing.
    assert all(len({row[number] for row in right}) == 2 for number in (0, 1, 2, 4))


def test_arrow_keeps_what_an_event_between_two_moments_touches(span: ResultSpan) -> None:
    cases = build_cases(span)
    first, last = NOON - MINUTE, NOON + MINUTE
    rows = as_table(cases, span)
    pause = span.inactivity
    kept = set(rows.filter(is_near(span, first, last))["number"].to_pylist())
    assert kept == {n for n, c in enumerate(cases) if c.start - pause <= last and c.end + pause >= first}
    out = set(rows.filter(reaches_out(span, first, last))["number"].to_pylist())
    assert out == {n for n, c in enumerate(cases) if c.start - pause <= first or c.end + pause >= last}


def test_numpy_refuses_what_python_refuses(span: ResultSpan) -> None:
    watermark = (NOON - EPOCH) // MICRO
    times = [(case.event - EPOCH) // MICRO for case in build_cases(span)]

    def count(time: int) -> int:
        if span.window is None:
            return int(time + span.inactivity // MICRO <= watermark)
        size, slide = (length // MICRO for length in span.window)
        newest = time // slide * slide
        return sum(begin + size <= watermark for begin in range(newest, newest - size, -slide) if begin + size > time)

    assert count_refused(np.array(times), span, watermark).tolist() == [count(time) for time in times]
