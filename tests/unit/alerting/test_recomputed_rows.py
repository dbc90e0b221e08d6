"""Alerts over a table whose days are computed again and again, as reports write them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from platform_assets.alerting import alert_follower
from platform_assets.alerting.alert_follower import AlertFollower
from platform_assets.alerting.alert_spec import AlertSpec
from platform_assets.alerting.catalogue import load_groups, select_alerts
from platform_assets.alerts import load_alerts
from platform_assets.alerts.break_in_suspected import ALERT as BREAK_IN
from platform_assets.alerts.network_threat import ALERT as THREAT
from platform_assets.alerts.patient_at_risk import ALERT as PATIENT
from platform_assets.alerts.sensor_anomaly import ALERT as ANOMALY
from platform_assets.errors import CatalogueError
from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table
from resources.settings import load_settings
from tests.unit.alerting.raised_table import RaisedTable

Row = dict[str, Any]
NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
TODAY = NOW.date()


class Report:
    """A report's table, of which whole days are replaced, and one alert on it."""

    def __init__(self, home: Path, spec: AlertSpec = THREAT) -> None:
        self.raised, self.spec = RaisedTable(home), spec
        self.uri = self.raised.lakehouse.table_uri(spec.table.name)
        create_table(self.uri, spec.table, {})
        self.follower = self.build()
        self.raised.follow(self.follower)

    def build(self) -> AlertFollower:
        return self.raised.build(self.spec)

    def replace(self, rows: Sequence[Row], day: date = TODAY) -> list[tuple[str, str, int]]:
        """Computes a day anew, lets the alert look at it, and returns what `platform.alerts` has then."""
        data = pa.Table.from_pylist([{"report_date": day, **row} for row in rows], build_arrow_schema(self.spec.table))
        write_deltalake(self.uri, data, mode="overwrite", predicate=f"report_date = '{day}'")
        self.raised.follow(self.follower)
        return self.raised.read_short()


@pytest.fixture
def report(tmp_path: Path) -> Report:
    return Report(tmp_path / "home")


def build_threat(network: str, last_at: datetime, logged_in_at: datetime | None = None, **values: Any) -> Row:
    first = last_at - timedelta(minutes=10)
    return {
        "network": network, "rule": "password_guessing", "first_at": first, "last_at": last_at, "reached_at": first,
        "events": 9, "peak": 7, "targets": 2, "hosts": 1, "logged_in_at": logged_in_at, "words": "9 failed log-ins",
        **values,
    }  # fmt: skip


def test_a_row_that_stands_in_the_day_again_raises_once(report: Report) -> None:
    first, second = build_threat("203.0.113.9", NOW), build_threat("198.51.100.7", NOW - timedelta(hours=1))
    opened = ("203.0.113.9 password_guessing", "opened", 1)
    assert report.replace([first]) == [opened]
    assert report.replace([first]) == [opened]
    # Another count of the same time is no news; a network that came since is.
    assert report.replace([first | {"events": 10}, second]) == [("198.51.100.7 password_guessing", "opened", 1), opened]
    assert report.follower.rows == 2


def test_what_goes_on_raises_it_again_and_what_is_gone_stays_until_it_is_quiet(
    report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alert_follower, "_FLUSH_SECONDS", 0.0)
    key = "203.0.113.9 password_guessing"
    report.replace([build_threat("203.0.113.9", NOW - timedelta(hours=1))])
    assert report.replace([build_threat("203.0.113.9", NOW)]) == [(key, "opened", 1), (key, "repeated", 1)]
    assert report.replace([]) == [(key, "opened", 1), (key, "repeated", 1)]


def test_days_that_are_computed_again_later_are_no_news(report: Report) -> None:
    """A backfill of a year, or other limits, would open an alert for each network of the year."""
    for ago in (2, 30, 300):
        at = NOW - timedelta(days=ago)
        assert report.replace([build_threat("203.0.113.9", at)], at.date()) == []


def test_a_row_that_becomes_worse_at_the_same_time_is_news(tmp_path: Path) -> None:
    report = Report(tmp_path / "home", BREAK_IN)
    quiet, broken = build_threat("203.0.113.9", NOW), build_threat("203.0.113.9", NOW, NOW)
    assert report.replace([quiet]) == []
    assert report.replace([broken]) == [("203.0.113.9", "opened", 1)]
    assert report.replace([broken | {"events": 11, "last_at": NOW + timedelta(minutes=1)}]) == [
        ("203.0.113.9", "opened", 1)
    ]
    [row] = report.raised.read()
    assert row["severity"] == "critical" and row["user_id"] == "203.0.113.9"
    assert row["text"] == f"logged in at {NOW:%Y-%m-%d %H:%M:%S} UTC after 9 failed log-ins"


def test_random_days_raise_what_is_new_in_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against dictionaries: a row is news when its key was not there before with that time. Followers come and go."""
    monkeypatch.setattr(alert_follower, "_FLUSH_SECONDS", 0.0)
    chance = random.Random(26)
    report = Report(tmp_path / "home")
    networks = [f"203.0.113.{number}" for number in range(6)]
    before: dict[str, datetime] = {}
    expected: dict[str, int] = {}
    for _ in range(12):
        chosen = chance.sample(networks, chance.randrange(1, 6))
        last = {
            each: before[each] if each in before and chance.random() < 0.5 else NOW - timedelta(seconds=chance.random())
            for each in chosen
        }
        for network, at in last.items():
            if before.get(network) != at:
                expected[network] = expected.get(network, 0) + 1
        if chance.random() < 0.3:
            report.follower = report.build()
        report.replace([build_threat(each, at, events=chance.randrange(9, 99)) for each, at in last.items()])
        before = last
    found: dict[str, int] = {}
    for key, transition, rows in report.raised.read_short():
        assert transition in ("opened", "repeated")
        found[key.split()[0]] = found.get(key.split()[0], 0) + rows
    assert found == expected


def test_rows_since_a_gap_are_looked_at_and_old_ones_are_not(report: Report) -> None:
    """The log no longer has the next version: the group was off for longer than the log is kept."""
    old = NOW - timedelta(days=30)
    report.replace([])
    for ago in (old, NOW):
        data = [{"report_date": ago.date(), **build_threat(f"10.0.0.{ago.day}", ago + timedelta(hours=1))}]
        write_deltalake(report.uri, pa.Table.from_pylist(data, build_arrow_schema(THREAT.table)), mode="append")
    table = DeltaTable(report.uri)
    table.create_checkpoint()
    for version in range(table.version()):
        (Path(report.uri) / "_delta_log" / f"{version:020}.json").unlink()
    report.follower.close()
    report.follower = report.build()
    report.raised.follow(report.follower)
    assert [key for key, _, _ in report.raised.read_short()] == [f"10.0.0.{NOW.day} password_guessing"]


@pytest.mark.parametrize("spec", load_alerts(), ids=lambda spec: spec.name)
def test_an_alert_over_a_report_says_for_how_long_its_rows_are_news(spec: AlertSpec) -> None:
    assert (spec.recomputed_within is not None) == ("report_date" in spec.table.key)


def test_an_anomaly_and_a_patient_are_told_in_words(tmp_path: Path) -> None:
    anomaly = {
        "sensor": "s-1", "kind": "pm2_5", "rule": "silence", "start_time": NOW, "end_time": NOW, "place": "harbour",
        "readings": 0, "unit": "s", "severity": "critical", "words": "silent for an hour",
    }  # fmt: skip
    report = Report(tmp_path / "sensors", ANOMALY)
    report.replace([anomaly, anomaly | {"sensor": "s-2", "severity": "warning"}])
    [row] = report.raised.read()
    assert (row["key"], row["text"]) == ("s-1 pm2_5 silence", "harbour: silent for an hour")
    patients = Report(tmp_path / "patients", PATIENT)
    score = {
        "sensor": "p-1", "hour_start": NOW, "score": 8, "known_signs": 6, "missing_signs": "consciousness",
        "has_red_sign": False, "risk": "high",
    }  # fmt: skip
    patients.replace([score, score | {"sensor": "p-2", "risk": "medium"}])
    [row] = patients.raised.read()
    assert (row["key"], row["user_id"], row["severity"]) == ("p-1", "p-1", "critical")
    assert row["text"] == f"score 8 of 20 in the hour from {NOW:%Y-%m-%d %H:%M} UTC; 6 of 7 signs are known"


def test_all_takes_the_alerts_on_reports_of_enabled_groups(
    monkeypatch: pytest.MonkeyPatch, fresh_settings: None
) -> None:
    monkeypatch.setenv("HEADRACE_GROUPS", "telemetry,access_logs")
    load_settings.cache_clear()
    names = [spec.name for spec in select_alerts(load_groups(), "all")]
    assert names == ["break_in_suspected", "network_threat", "patient_at_risk", "sensor_anomaly"]


def test_no_time_is_no_time_within_which_rows_are_news() -> None:
    with pytest.raises(CatalogueError, match="`recomputed_within` must be longer than nothing"):
        replace(THREAT, recomputed_within=timedelta(0))
