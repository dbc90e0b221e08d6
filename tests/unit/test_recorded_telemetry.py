"""Two months of a real pipeline's water flow, recorded each hour: what is sent of it, what the report finds in it."""

from __future__ import annotations

import dataclasses
import itertools
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from jobs.simulator.mapping import RowMapping, find_fields
from jobs.simulator.recorded import Recording
from platform_assets.errors import UsageError
from platform_assets.reports.telemetry_anomalies import build_anomalies_sql
from platform_assets.reports.telemetry_thresholds import load_thresholds
from platform_assets.streaming.event_rules import EventRules
from platform_assets.streaming.ingest.record_contract import compile_contract
from platform_assets.streaming.topic_spec import EventTime, JsonValues
from platform_assets.tables.telemetry import TELEMETRY_ANOMALIES_TABLE
from platform_assets.topics import telemetry, transactions
from platform_assets.topics.telemetry import TOPIC
from tests.spark.telemetry_cases import Reading, telemetry_table
from tests.telemetry_lake import Row, ask_sql

HOUR = timedelta(hours=1)
MAPPING = RowMapping(
    columns={"Time": "timestamp", "Water flow [l/s]": "value"},
    constants={"sensor": "branch", "kind": "water_flow", "unit": "l/s", "place": "pipeline"},
    fields=find_fields(TOPIC),
)


def find_recording() -> Path:
    """A data set of the package river: donated by a company that runs waterworks, with four anomalies in it."""
    spec = find_spec("river")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "datasets" / "water-flow.csv"


@pytest.fixture(scope="module")
def readings() -> list[Reading]:
    recording = Recording(find_recording(), mapping=MAPPING)
    sent = list(recording.records(0))
    assert recording.tally.counts()["records"] == len(sent) == 1268
    assert {key for _, key, _ in sent} == {b"branch"}
    contract, found = compile_contract(TOPIC), []
    for _, _, value in sent:
        parsed = contract.parse(value, 1_048_576, 2_000_000_000_000_000, EventRules())
        each = parsed.record
        at = datetime.fromtimestamp(parsed.time_micros / 1_000_000, UTC)
        found.append({**{name: getattr(each, name) for name in each.__struct_fields__}, "event_time": at})
        found[-1].pop("timestamp")
    return found


@pytest.fixture(scope="module")
def anomalies(readings: list[Reading]) -> list[Row]:
    first, last = readings[0]["event_time"].date(), readings[-1]["event_time"].date()
    sql = build_anomalies_sql(load_thresholds())
    return ask_sql(sql, telemetry_table(readings), TELEMETRY_ANOMALIES_TABLE, first, last)


def test_a_row_is_a_reading_in_the_standard_unit(readings: list[Reading]) -> None:
    assert readings[0]["event_time"] == datetime(2022, 3, 20, 10, tzinfo=UTC)
    assert (readings[0]["value"], readings[0]["unit"]) == (100.59, "L/s")


def test_the_three_times_of_low_flow_are_found_and_nothing_else(readings: list[Reading], anomalies: list[Row]) -> None:
    low = [each["event_time"] for each in readings if each["value"] < 60]
    assert len(low) > 20
    starts = [at for before, at in itertools.pairwise([low[0] - 9 * HOUR, *low]) if at - before > 8 * HOUR]
    assert len(starts) == 3
    segments = [(start, max(at for at in low if start <= at < start + timedelta(days=2))) for start in starts]
    unusual = [row for row in anomalies if row["rule"] == "unusual"]
    steps = [row for row in anomalies if row["rule"] in ("step", "stuck")]
    for start, end in segments:
        near = start - 3 * HOUR, end + 3 * HOUR
        own = [row for row in unusual if near[0] <= row["start_time"] and row["end_time"] <= near[1]]
        assert own and {row["severity"] for row in own} == {"critical"}
        unusual = [row for row in unusual if row not in own]
        steps = [row for row in steps if not (row["start_time"] < end + 12 * HOUR and start < row["end_time"] + HOUR)]
    assert unusual == [] and steps == []
    assert {row["rule"] for row in anomalies} <= {"unusual", "step", "stuck", "silence"}


def test_the_holes_of_the_recording_are_silences(readings: list[Reading], anomalies: list[Row]) -> None:
    times = [each["event_time"] for each in readings]
    holes = [(before, after) for before, after in itertools.pairwise(times) if after - before > 10 * HOUR]
    silences = [(row["start_time"], row["end_time"]) for row in anomalies if row["rule"] == "silence"]
    assert holes and sorted(silences) == holes


def test_topics_that_no_recording_can_be_are_refused() -> None:
    assert find_fields(transactions.TOPIC).derived_id == "transaction_id"
    for changed in (
        {"values": JsonValues(is_list=True)},
        {"event_time": EventTime("timestamp", format="%d.%m.%Y")},
    ):
        topic: Any = dataclasses.replace(telemetry.TOPIC, **changed)
        with pytest.raises(UsageError, match="cannot be sent as telemetry"):
            find_fields(topic)
