"""gold.telemetry_anomalies: its query against plain Python, by rule, on planted anomalies, by edited thresholds."""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.operations.forgetting.topics import build_erasers
from jobs.simulator.planted_anomalies import Planted
from jobs.simulator.telemetry import Telemetry
from jobs.simulator.telemetry_profile import TelemetryProfile
from platform_assets.checks.freshness import build_report_freshness_checks
from platform_assets.checks.report_consistency import build_report_consistency_checks
from platform_assets.checks.schema_contract import build_schema_contract_checks
from platform_assets.errors import SettingError
from platform_assets.reports.daily_report import ReportInput
from platform_assets.reports.day_states import REPORT_DAYS
from platform_assets.reports.telemetry_anomalies import (
    TELEMETRY_ANOMALIES,
    build_anomalies_sql,
)
from platform_assets.reports.telemetry_thresholds import SHIPPED, load_thresholds
from platform_assets.streaming.context import StreamContext
from platform_assets.streaming.stream_spec import KafkaStream, Stream
from platform_assets.streams import telemetry_statistics
from platform_assets.tables.spec import Column
from platform_assets.tables.telemetry import EARLY_WARNING_SCORES_TABLE, TELEMETRY_ANOMALIES_TABLE
from platform_assets.topics.telemetry import TELEMETRY, TOPIC, UNITS
from resources.lakehouse import LakehouseResource
from resources.settings import load_settings
from tests.spark.report_cases import read_rows
from tests.spark.telemetry_cases import MINUTE, Reading, reading, telemetry_table
from tests.telemetry_lake import DAY, HOUR, MIDNIGHT, ONE_DAY, Row, ask_sql, recompute, run, tell_history, write

SPEC = TELEMETRY_ANOMALIES_TABLE
SQL = build_anomalies_sql(load_thresholds())
NOON = MIDNIGHT + 12 * HOUR


def ask(readings: Sequence[Reading]) -> list[Row]:
    return ask_sql(SQL, telemetry_table(readings), SPEC)


def steady(
    start: datetime, end: datetime, value: float = 20.0, kind: str = "air_temperature", sensor: str = "s"
) -> list[Reading]:
    """A reading a minute that goes up and down by a tenth."""
    count = round((end - start) / MINUTE)
    return [reading(sensor, start + n * MINUTE, value + (n % 3) / 10, kind) for n in range(count)]


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32).map(random.Random), st.integers(1, 3))
def test_the_query_equals_plain_python_whatever_days_a_run_computes(
    tmp_path_factory: pytest.TempPathFactory, chance: random.Random, portions: int
) -> None:
    readings = tell_history(chance)
    lakehouse = LakehouseResource(root=str(tmp_path_factory.mktemp("lakehouse")))
    write(lakehouse, readings)
    table = telemetry_table(readings)
    both = ask_sql(SQL, table, SPEC, DAY, DAY + ONE_DAY)
    for day in (DAY, DAY + ONE_DAY):
        # A run of one day reads the seven days before it, and nothing after it.
        first = datetime(day.year, day.month, day.day, tzinfo=UTC)
        bounds = first - 7 * ONE_DAY, first + ONE_DAY
        alone = telemetry_table([each for each in readings if bounds[0] <= each["event_time"] < bounds[1]])
        expected = recompute(lakehouse, SPEC, day, portions)
        assert ask_sql(SQL, alone, SPEC, day, day) == expected
        assert [row for row in both if row["report_date"] == day] == expected
        assert len({tuple(row[name] for name in SPEC.key) for row in expected}) == len(expected)


def test_histories_have_anomalies_of_each_rule() -> None:
    rules: Counter[str] = Counter()
    for seed in range(4):
        rules.update(row["rule"] for row in ask(tell_history(random.Random(seed), 12)))
    assert set(rules) == {"out_of_range", "stuck", "step", "unusual", "silence"}


def test_a_limit_itself_is_in_range_and_what_is_beyond_is_one_episode() -> None:
    values = [-40.0, 50.0, 50.000001, 61.25, 55.0, 50.0, -40.1]
    rows = ask([reading("s", NOON + n * MINUTE, value) for n, value in enumerate(values)])
    found = [
        (row["rule"], row["start_time"], row["end_time"], row["readings"], row["value"], row["expected"])
        for row in rows
    ]
    assert found == [
        ("out_of_range", NOON + 2 * MINUTE, NOON + 4 * MINUTE, 3, 61.25, 50.0),
        ("out_of_range", NOON + 6 * MINUTE, NOON + 6 * MINUTE, 1, -40.1, -40.0),
    ]
    assert [row["words"] for row in rows] == ["61.250 Cel, above 50.000", "-40.100 Cel, below -40.000"]
    assert {(row["severity"], row["unit"], row["place"]) for row in rows} == {("critical", "Cel", "p")}


def test_another_unit_is_no_other_value() -> None:
    fahrenheit = [reading("s", NOON + n * MINUTE, 68.0 + n % 2, unit="[degF]") for n in range(30)]
    celsius = [reading("s", NOON - n * MINUTE, 20.0 + n % 2 / 2) for n in range(1, 31)]
    assert ask([*celsius, *fahrenheit]) == []


@pytest.mark.parametrize(("minutes", "is_stuck"), [(89, False), (90, True), (200, True)])
def test_a_value_that_stays_the_same_is_stuck_since_the_day_before(minutes: int, is_stuck: bool) -> None:
    start = MIDNIGHT - 30 * MINUTE
    rows = ask([reading("s", start + n * MINUTE, 20.0) for n in range(minutes + 1)])
    assert [(row["rule"], row["start_time"], row["value"]) for row in rows] == [("stuck", start, 20.0)] * is_stuck
    assert all(row["words"] == f"20.000 Cel for {minutes} minutes" for row in rows)


def test_a_bad_reading_ends_no_run_and_four_equal_ones_are_none() -> None:
    frozen = [reading("s", NOON + n * MINUTE, 20.0, quality="bad" if n == 50 else "good") for n in range(100)]
    assert [row["readings"] for row in ask(frozen)] == [10]
    assert ask([reading("s", NOON + n * 2 * HOUR, 20.0) for n in range(4)]) == []


def test_a_new_level_is_a_step_and_one_wrong_value_is_none() -> None:
    before, after = steady(NOON - 20 * MINUTE, NOON), steady(NOON, NOON + 20 * MINUTE, 25.0)
    (row,) = (row for row in ask([*before, *after]) if row["rule"] == "step")
    assert (row["rule"], row["expected"], row["value"]) == ("step", 20.1, 25.1)
    assert row["start_time"] <= NOON <= row["end_time"] <= NOON + 12 * MINUTE
    assert row["words"] == "from 20.100 to 25.100 Cel"
    spiked = [each | {"value": 30.0} if n == 10 else each for n, each in enumerate(before)]
    assert ask(spiked) == []


def test_what_is_usual_at_this_hour_is_not_unusual_and_what_never_was_is() -> None:
    def tell(days: int, noon: float) -> list[Reading]:
        found = []
        for back in range(days + 1):
            midday = NOON - back * ONE_DAY
            found += steady(midday - 4 * HOUR, midday, sensor="s")
            found += steady(midday, midday + 30 * MINUTE, 23.9 if back else noon, sensor="s")
        return found

    def unusual(found: list[Row]) -> list[Row]:
        return [row for row in found if row["rule"] == "unusual"]

    assert unusual(ask(tell(5, 23.9))) == []
    (row,) = unusual(ask(tell(5, 35.0)))
    assert (row["start_time"], row["readings"], row["value"], row["expected"]) == (NOON, 30, 35.2, 20.1)
    assert row["severity"] == "critical" and row["words"] == "35.200 Cel where 20.100 is usual"
    # Two days are no custom: the last hours alone are known.
    assert len(unusual(ask(tell(2, 23.9)))) == 1


def test_a_silence_is_told_on_each_day_that_it_touches() -> None:
    spoken = [each for back in (3, 2) for each in steady(NOON - back * ONE_DAY, NOON - back * ONE_DAY + HOUR)]
    last = MIDNIGHT - 2 * HOUR
    others = steady(MIDNIGHT - ONE_DAY, MIDNIGHT + ONE_DAY, sensor="other")
    own = [*spoken, *steady(last - HOUR, last), *steady(NOON, NOON + HOUR)]
    table = telemetry_table([*own, *others])
    rows = [row for row in ask_sql(SQL, table, SPEC, DAY - ONE_DAY, DAY) if row["sensor"] == "s"]
    silent = [row for row in rows if row["rule"] == "silence"]
    yesterday, today, tonight = silent[0], *sorted(silent[1:], key=lambda row: row["start_time"])[-2:]
    assert (today["start_time"], today["end_time"]) == (last - MINUTE, NOON)
    assert (today["value"], today["expected"], today["unit"]) == (14 * 3600 + 60.0, 60.0, "s")
    assert today["words"] == "silent for 841 minutes, usually a reading each 60.000 s"
    assert (tonight["start_time"], tonight["end_time"]) == (NOON + 59 * MINUTE, MIDNIGHT + ONE_DAY - MINUTE)
    assert {row["severity"] for row in (today, tonight)} == {"critical"}
    assert yesterday["report_date"] == DAY - ONE_DAY
    # Of one day nobody knows how often it speaks.
    assert ask([*steady(NOON - ONE_DAY, NOON - ONE_DAY + HOUR), *steady(MIDNIGHT, NOON, sensor="other")]) == []


def judges(pattern: str, kind: str) -> bool:
    """Whether the shipped thresholds have a rule for it: humidity and saturation may well stay at one value."""
    threshold = {each.kind: each for each in load_thresholds()}[kind]
    if pattern in ("stuck", "silence"):
        return getattr(threshold, f"{pattern}_minutes") is not None
    return threshold.least_deviation is not None


def is_about(row: Row, planted: Planted, after: timedelta) -> bool:
    start, end = (datetime.fromtimestamp(micros / 1_000_000, UTC) for micros in (planted.start, planted.end))
    same = (row["sensor"], row["kind"]) == (planted.sensor, planted.kind)
    return same and row["start_time"] < end + after and row["end_time"] >= start - MINUTE


def test_planted_anomalies_are_found_and_a_change_of_the_unit_is_none() -> None:
    profile = TelemetryProfile(
        sensors=8, patients=1, anomalies=0.4, deteriorations=0.4, late=0, out_of_order=0, duplicates=0, unknown_fields=0
    ).with_malformed(0)
    telemetry, start = Telemetry(profile, 6), round((MIDNIGHT - 2 * ONE_DAY).timestamp()) * 1_000_000
    end = start + 3 * 24 * 3_600_000_000
    readings = []
    for _, _, value in telemetry.history(start, end, 21 / 90):
        read = json.loads(value or b"")
        readings.append({**read, "event_time": datetime.fromisoformat(read.pop("timestamp"))})
    rows = ask(readings)
    planted = [
        each for each in telemetry.list_planted(end - 24 * 3_600_000_000, end) if judges(each.pattern, each.kind)
    ]
    assert {each.pattern for each in planted} >= {"out_of_range", "spike", "step", "stuck", "silence", "deterioration"}
    changed = [each for each in planted if each.pattern == "unit_change"]
    assert changed and not [row for row in rows for each in changed if is_about(row, each, timedelta(0))]
    wrong = [each for each in planted if each.pattern != "unit_change"]
    assert [each for each in wrong if not any(is_about(row, each, 5 * MINUTE) for row in rows)] == []
    # What began before the day ends in it, and a level that comes back is a step too.
    before = telemetry.list_planted(start, end)
    false = [row for row in rows if not any(is_about(row, each, 4 * HOUR) for each in before)]
    assert len(false) <= 0.05 * len(rows), false


@pytest.fixture
def thresholds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file that the setting names; a copy of the shipped one."""
    path = tmp_path / "thresholds.csv"
    shutil.copy(SHIPPED, path)
    monkeypatch.setenv("HEADRACE_TELEMETRY_THRESHOLDS", str(path))
    load_settings.cache_clear()
    yield path
    load_settings.cache_clear()


def test_the_shipped_thresholds_are_of_all_kinds() -> None:
    assert [each.kind for each in load_thresholds()] == list(UNITS)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("air_temperature,", "temperature,", "line 2: there is no kind 'temperature'. There are air_temperature, "),
        ("Cel,-40", "[degF],-40", r"line 2: unit is '\[degF\]', and tables have air_temperature in Cel"),
        ("-40,50,", "60,50,", "line 2: low is 60, above high, which is 50"),
        ("-40,50,", "nan,50,", "line 2: low is nan, which no value can be compared with"),
        ("-40,50,", "-40,inf,", "line 2: high is inf"),
        ("-40,50,", "cold,50,", "line 2: low is 'cold', not a number"),
        ("-40,50,", "-40,", "line 2: 7 cells in place of 8"),
        ("-40,50,4,", "-40,50,0,", "line 2: step is 0. Give a number above 0"),
        (",90,30", ",1441,30", "line 2: stuck_minutes is 1441. Give a number above 0 up to 1440"),
        (",90,30", ",90,-1", "line 2: silence_minutes is -1"),
        ("relative_humidity,%", "air_temperature,Cel", "line 3: line 2 is about air_temperature as well"),
        ("kind,unit", "kind,units", "line 1: the columns must be kind,unit,low"),
        ("kind,unit", 'kind,"unit', "cannot be read as CSV"),
    ],
)
def test_thresholds_that_are_nonsense_are_refused_with_their_line(
    thresholds: Path, old: str, new: str, says: str
) -> None:
    text = thresholds.read_text()
    assert old in text
    thresholds.write_text(text.replace(old, new, 1))
    with pytest.raises(SettingError, match=says) as refused:
        load_thresholds(str(thresholds))
    assert str(thresholds) in str(refused.value)


def test_a_file_that_is_not_there_or_empty_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="HEADRACE_TELEMETRY_THRESHOLDS"):
        load_thresholds(str(tmp_path / "none.csv"))
    for text, says in (("", "there is nothing"), (SHIPPED.read_text().splitlines()[0], "nothing would be judged")):
        (tmp_path / "t.csv").write_text(text)
        with pytest.raises(SettingError, match=says):
            load_thresholds(str(tmp_path / "t.csv"))


def test_a_file_as_a_spreadsheet_writes_it_is_read(tmp_path: Path) -> None:
    lines = SHIPPED.read_text().splitlines()
    (tmp_path / "t.csv").write_bytes("\r\n".join([*lines, ""]).encode("utf-8-sig"))
    assert load_thresholds(str(tmp_path / "t.csv")) == load_thresholds()


def test_edited_thresholds_have_the_days_computed_anew_and_wrong_ones_stop_only_this_report(
    tmp_path: Path, thresholds: Path
) -> None:
    lakehouse = LakehouseResource(root=str(tmp_path / "lakehouse"))
    write(lakehouse, [reading("s", NOON, 39.0), reading("p", NOON, 80.0, "heart_rate")])
    assert run(lakehouse).success
    assert read_rows(lakehouse, SPEC.name) == []
    text = thresholds.read_text()
    thresholds.write_text(text.replace("-40,50,", "50,-40,"))
    failed = run(lakehouse, raise_on_error=False)
    assert not failed.success
    (failure,) = (event for event in failed.all_events if event.is_step_failure)
    assert "low is 50, above high" in str(failure.event_specific_data)
    assert len(read_rows(lakehouse, EARLY_WARNING_SCORES_TABLE.name)) == 1
    thresholds.write_text(text.replace("-40,50,", "-40,38,"))
    assert run(lakehouse).success
    (row,) = read_rows(lakehouse, SPEC.name)
    assert (row["value"], row["expected"]) == (39.0, 38.0)


def test_a_day_follows_from_seven_days_before_it_and_from_none_after() -> None:
    (source,) = TELEMETRY_ANOMALIES.inputs
    assert source.days_read(DAY) == {DAY - n * ONE_DAY for n in range(8)}
    assert source.days_touched(DAY) == {DAY + n * ONE_DAY for n in range(8)}
    both = ReportInput(TELEMETRY, "event_date", neighbours=1)
    assert both.days_read(DAY) == both.days_touched(DAY) == {DAY - ONE_DAY, DAY, DAY + ONE_DAY}


def test_a_late_reading_has_its_day_and_those_after_it_computed_anew(tmp_path: Path) -> None:
    lakehouse = LakehouseResource(root=str(tmp_path / "lakehouse"))
    days = [DAY + n * ONE_DAY for n in range(-2, 9)]
    readings = [reading("s", NOON + (day - DAY), 20.0) for day in days]
    write(lakehouse, readings)
    run(lakehouse, days[0], days[-1], only=[SPEC])

    def versions() -> dict[Any, int]:
        rows = read_rows(lakehouse, REPORT_DAYS.name)
        return {row["report_date"]: row["report_version"] for row in rows if row["report"] == SPEC.name}

    before = versions()
    write(lakehouse, [reading("s", NOON + HOUR, 21.0)], first_offset=len(readings))
    run(lakehouse, days[0], days[-1], only=[SPEC])
    after = versions()
    assert [day for day in days if after[day] > before[day]] == [DAY + n * ONE_DAY for n in range(8)]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lakehouse with both reports of one day, of which all checks have passed."""
    root = tmp_path_factory.mktemp("telemetry")
    lakehouse = LakehouseResource(root=str(root / "lakehouse"))
    fever = [reading("patient", NOON + n * MINUTE, 39.6, "body_temperature") for n in range(300)]
    write(lakehouse, [*tell_history(random.Random(2), 10), *fever])
    tables = [SPEC, EARLY_WARNING_SCORES_TABLE]
    checks = [
        *build_report_consistency_checks(tables),
        *build_schema_contract_checks(tables),
        *build_report_freshness_checks(tables),
    ]
    verdicts = run(lakehouse, checks=checks).get_asset_check_evaluations()
    assert [(v.check_name, v.description) for v in verdicts if not v.passed] == []
    assert len(verdicts) == 6
    assert all(len(read_rows(lakehouse, table.name)) > 0 for table in tables)
    return root


@pytest.mark.parametrize("column", SPEC.columns[1:], ids=lambda column: column.name)
def test_the_consistency_check_finds_one_wrong_value_in_any_column(
    written: Path, tmp_path: Path, column: Column
) -> None:
    shutil.copytree(written / "lakehouse", tmp_path / "lakehouse")
    lakehouse = LakehouseResource(root=str(tmp_path / "lakehouse"))
    wrong = {
        "bigint": f"{column.name} + 1", "double": f"coalesce({column.name}, 0.0) + 0.000001",
        "string": f"concat(coalesce({column.name}, ''), 'x')", "timestamp": f"{column.name} + interval '1 second'",
    }[column.type]  # fmt: skip
    fever = "sensor = 'patient' and rule = 'out_of_range'"
    changed = lakehouse.delta_table(SPEC.name).update({column.name: wrong}, predicate=fever)
    assert changed["num_updated_rows"] == 1
    (check,) = build_report_consistency_checks([SPEC])
    verdict = check(dg.build_asset_check_context(resources={"lakehouse": lakehouse}))
    assert isinstance(verdict, dg.AssetCheckResult)
    assert not verdict.passed
    assert "2 differing rows" in str(verdict.description)


def test_a_forgotten_patient_leaves_both_reports(written: Path) -> None:
    context = StreamContext(str(written / "lakehouse"), {}, "earliest", 1, 1.0, 1, None)
    streams: list[Stream] = [KafkaStream(TOPIC), telemetry_statistics.STREAM]
    personal = build_erasers("patient", "hash", streams, context)[TELEMETRY.name].personal
    assert personal == {SPEC: "sensor", EARLY_WARNING_SCORES_TABLE: "sensor"}


def test_the_day_has_a_page_that_names_no_patient(written: Path) -> None:
    page = (written / "lakehouse" / "_reports" / f"{DAY}.html").read_text(encoding="utf-8")
    assert "What was wrong with sensors" in page and "39.600 Cel, above 39.000" in page
    assert "Patients with the highest scores" in page
    assert "patient" not in page.replace("Patients", "").replace("patients", "")
