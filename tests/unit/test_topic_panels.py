"""The live page's panels of sensors and access logs, against sums in plain Python."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from jobs.page.page_reader import PageReader
from jobs.page.panel import Panel
from jobs.page.panels import load_panels
from jobs.page.platform_view import PlatformView
from jobs.page.rendering import render_panel
from platform_assets.streams import load_stream_groups
from platform_assets.streams.telemetry_statistics import TELEMETRY_STATISTICS
from platform_assets.streams.traffic_by_minute import TRAFFIC_BY_MINUTE
from platform_assets.tables.access_logs import NETWORK_THREATS_TABLE
from platform_assets.tables.telemetry import EARLY_WARNING_SCORES_TABLE, TELEMETRY_ANOMALIES_TABLE
from resources.duckdb import DuckDBResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.shop_lake import append_rows

NOW = datetime(2026, 5, 4, 12, 0, 20, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOSTILE = "<script>alert(1)</script>"
Values = dict[str, Any]


@pytest.fixture
def values(monkeypatch: pytest.MonkeyPatch) -> Values:
    found: Values = {}

    def note(panel: Panel, given: Any) -> str:
        found[panel.name] = given
        return render_panel(panel, given)

    monkeypatch.setattr("jobs.page.page_reader.render_panel", note)
    return found


@pytest.fixture
def reader(lakehouse: LakehouseResource, settings: Settings) -> Iterator[PageReader]:
    found = PageReader(lakehouse, DuckDBResource.from_settings(settings), load_panels(), load_stream_groups())
    yield found
    found.close()


def test_requests_and_errors_are_those_of_the_last_whole_minutes(
    lakehouse: LakehouseResource, reader: PageReader, values: Values
) -> None:
    chance = random.Random(1)
    rows: list[dict[str, Any]] = [
        {
            "window_start": NOW.replace(second=0) - MINUTE * ago, "host": host, "requests": chance.randrange(50),
            "client_errors": chance.randrange(9), "server_errors": chance.randrange(9),
        }
        for ago in range(0, 90, chance.randrange(1, 3)) for host in ("a", "b", None)
    ]  # fmt: skip
    append_rows(lakehouse, TRAFFIC_BY_MINUTE, rows)
    html = reader.refresh(PlatformView(), NOW)["traffic"].html
    shown = values["traffic"]
    end = NOW.replace(second=0)
    hour = [row for row in rows if end - 60 * MINUTE <= row["window_start"] < end]
    for name in ("requests", "client_errors", "server_errors"):
        expected = sum(row[name] for row in hour if row["window_start"] == end - MINUTE)
        assert shown["minute"][name] == expected
    by_minute = Counter[datetime]()
    for row in hour:
        by_minute[row["window_start"]] += row["requests"]
    assert shown["line"] == [by_minute[end - 60 * MINUTE + n * MINUTE] for n in range(60)]
    assert shown["requests"] == by_minute.total()
    assert shown["failed"] == pytest.approx(sum(row["server_errors"] for row in hour) / by_minute.total())
    assert "11:59 UTC" in html or "12:00 UTC" in html


def test_an_empty_table_says_that_nothing_came(lakehouse: LakehouseResource, reader: PageReader) -> None:
    tables = (TRAFFIC_BY_MINUTE, NETWORK_THREATS_TABLE, TELEMETRY_STATISTICS, TELEMETRY_ANOMALIES_TABLE)
    for spec in (*tables, EARLY_WARNING_SCORES_TABLE):
        append_rows(lakehouse, spec, [])
    states = reader.refresh(PlatformView(), NOW)
    said = {"traffic": "No request yet", "threats": "No network is suspected", "sensors": "No reading yet"}
    for name, words in (said | {"anomalies": "Nothing is wrong with a sensor"}).items():
        assert words in states[name].html


def test_threats_are_shown_without_addresses_and_who_came_in_is_first(
    lakehouse: LakehouseResource, reader: PageReader, values: Values
) -> None:
    rows: list[dict[str, Any]] = [
        {
            "report_date": NOW.date(), "network": f"203.0.113.{n}", "rule": "burst", "first_at": NOW - n * MINUTE,
            "last_at": NOW - n * MINUTE, "reached_at": NOW, "events": 1, "peak": 1, "targets": 1, "hosts": 1,
            "logged_in_at": NOW if n == 7 else None, "words": HOSTILE,
        }
        for n in range(9)
    ]  # fmt: skip
    old = rows[0] | {"last_at": NOW - timedelta(days=3), "network": "198.51.100.1"}
    append_rows(lakehouse, NETWORK_THREATS_TABLE, [*rows, old])
    html = reader.refresh(PlatformView(), NOW)["threats"].html
    shown = values["threats"]
    assert [row["moment"] for row in shown["shown"]] == [NOW - n * MINUTE for n in (7, 0, 1, 2, 3, 4)]
    assert (shown["threats"], shown["networks"]) == (9, 9)
    assert html.count("has logged in since") == 1 and "203.0.113" not in html and "<script" not in html


def test_kinds_of_readings_are_added_up_over_an_hour(
    lakehouse: LakehouseResource, reader: PageReader, values: Values
) -> None:
    chance = random.Random(2)
    start = NOW.replace(second=0)
    rows: list[dict[str, Any]] = [
        {
            "window_start": start - timedelta(minutes=5 * n), "window_end": start, "sensor": f"s-{sensor}",
            "kind": chance.choice(("pm2_5", "noise_level")), "unit": "dB", "readings": chance.randrange(3),
            "bad_readings": chance.randrange(2), "total_value": Decimal(chance.randrange(10**6)) / 1000,
        }
        for n in range(20) for sensor in range(5)
    ]  # fmt: skip
    append_rows(lakehouse, TELEMETRY_STATISTICS, rows)
    html = reader.refresh(PlatformView(), NOW)["sensors"].html
    hour = [row for row in rows if row["window_start"] > start - timedelta(hours=1)]
    for found in values["sensors"]["kinds"]:
        of_kind = [row for row in hour if row["kind"] == found["kind"]]
        assert found["unit"] == "dB"
        assert found["sensors"] == len({row["sensor"] for row in of_kind})
        assert found["readings"] == sum(row["readings"] + row["bad_readings"] for row in of_kind)
        assert found["bad"] == sum(row["bad_readings"] for row in of_kind)
        mean = float(sum(row["total_value"] for row in of_kind)) / sum(row["readings"] for row in of_kind)
        assert found["mean"] == pytest.approx(mean)
    assert len(values["sensors"]["kinds"]) == 2 and "s-1" not in html


def test_anomalies_and_patients_are_counted_without_their_names(
    lakehouse: LakehouseResource, reader: PageReader, values: Values
) -> None:
    chance = random.Random(3)
    anomalies: list[dict[str, Any]] = [
        {
            "report_date": NOW.date(), "sensor": f"patient-{n}", "kind": "pm2_5",
            "rule": chance.choice(("step", "stuck")), "start_time": NOW, "end_time": NOW - n * MINUTE, "place": HOSTILE,
            "readings": 1, "unit": "ug/m3",
            "severity": chance.choice(("warning", "critical")), "words": "patient-1",
        }
        for n in range(20)
    ]  # fmt: skip
    append_rows(lakehouse, TELEMETRY_ANOMALIES_TABLE, anomalies)
    hours: list[dict[str, Any]] = [
        {
            "report_date": NOW.date(), "sensor": f"patient-{n}", "hour_start": NOW.replace(minute=0) - h * 60 * MINUTE,
            "score": 7, "known_signs": 7, "missing_signs": "", "has_red_sign": False,
            "risk": chance.choice(("low", "medium", "high")),
        }
        for n in range(9) for h in range(3)
    ]  # fmt: skip
    append_rows(lakehouse, EARLY_WARNING_SCORES_TABLE, hours)
    html = reader.refresh(PlatformView(), NOW)["anomalies"].html
    shown = values["anomalies"]
    expected = Counter((row["rule"], row["severity"]) for row in anomalies)
    assert {(row["rule"], row["severity"]): row["episodes"] for row in shown["rows"]} == expected
    assert [row["severity"] for row in shown["rows"]] == sorted(row["severity"] for row in shown["rows"])
    newest = Counter(row["risk"] for row in hours if row["hour_start"] == NOW.replace(minute=0))
    assert (shown["patients"], shown["high"], shown["medium"]) == (9, newest["high"], newest["medium"])
    assert "patient-" not in html and "<script" not in html
