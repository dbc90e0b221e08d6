"""What a scrape says: every metric as it is specified, from what hosts, supervisor and checks have written."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric

from jobs.cli.__main__ import main
from jobs.supervision.dagster_home import ensure_dagster_home
from jobs.supervision.group_lease import identify_myself
from jobs.supervision.usage import UsageWatch
from jobs.watching import collector
from jobs.watching.collector import PlatformCollector, build_families
from jobs.watching.endpoint import serving_metrics
from jobs.watching.metric_specs import METRICS, build_table
from jobs.watching.samples import Histogram, Sample
from platform_assets.errors import InstanceUnavailableError, NotReadyError, SettingError
from platform_assets.streaming.batch_totals import DURATION_BOUNDS, PARTS, WHOLE, BatchTotals
from platform_assets.streaming.engine.topic_ends import TopicEnds
from resources.settings import Settings, load_settings
from tests.unit.watched_platform import GROUPS, KEYS, WatchedPlatform, say_as_older_code

ROOT = Path(__file__).parents[2]
Found = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    settings = Settings(home=tmp_path, lakehouse=str(tmp_path), kafka_bootstrap_servers="")
    monkeypatch.setenv("DAGSTER_HOME", str(settings.dagster_home))
    monkeypatch.setattr(collector, "_READ_SECONDS", 60.0)  # a loaded machine is no storage that hangs
    return settings


@pytest.fixture
def platform(settings: Settings) -> Iterator[WatchedPlatform]:
    ensure_dagster_home(settings)
    with dg.DagsterInstance.get() as instance:
        yield WatchedPlatform(instance)


def read(watched: PlatformCollector) -> Found:
    registry = CollectorRegistry()
    registry.register(watched)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in registry.collect()
        for sample in family.samples
    }


def value_of(found: Found, name: str, **labels: str) -> float:
    return found[name, frozenset(labels.items())]


def test_each_metric_is_given_with_its_labels_by_a_platform_at_work(
    settings: Settings, platform: WatchedPlatform
) -> None:
    platform.run_checks(passed=True)
    platform.beat()
    platform.tick()
    families = {family.name: family for family in PlatformCollector(settings, GROUPS, KEYS).collect()}
    for spec in METRICS:
        family = families.pop(spec.name.removesuffix("_total"))
        assert (family.type, family.documentation) == (spec.kind, spec.help)
        for sample in family.samples:
            assert sample.name in spec.series
            assert tuple(name for name in sample.labels if name != "le") == spec.labels
    assert not families


def test_the_values_are_those_that_were_written(settings: Settings, platform: WatchedPlatform) -> None:
    platform.run_checks(passed=False)
    platform.beat(ill=True)
    platform.tick(ill=True)
    found = read(PlatformCollector(settings, GROUPS, KEYS))
    of_query, of_group = {"group": "clickstream", "query": "events"}, {"group": "clickstream"}
    assert value_of(found, "headrace_storage_up") == 1
    assert value_of(found, "headrace_group_phase", phase="NEEDS_ATTENTION", **of_group) == 1
    phases = [
        value
        for (name, labels), value in found.items()
        if name == "headrace_group_phase" and ("group", "clickstream") in labels
    ]
    assert sum(phases) == 1
    assert value_of(found, "headrace_query_lag_records", **of_query) == platform.number * 1000
    assert 3600 <= value_of(found, "headrace_query_lag_seconds", **of_query) < 3700
    assert value_of(found, "headrace_batch_duration_seconds_count", **of_query) == platform.number
    assert value_of(found, "headrace_batch_duration_seconds_bucket", le="60.0", **of_query) == 0
    assert value_of(found, "headrace_batch_duration_seconds_bucket", le="120.0", **of_query) == platform.number
    assert value_of(found, "headrace_batch_part_seconds_total", part="addBatch", **of_query) == platform.number * 90
    assert value_of(found, "headrace_query_records_total", verdict="quarantined", **of_query) == platform.number * 90
    assert value_of(found, "headrace_query_paused", **of_query) == 1
    ledger = {"table": "silver.events", "check": "ledger"}
    assert value_of(found, "headrace_check_failed", severity="error", **ledger) == 1
    assert value_of(found, "headrace_check_failed", severity="warn", **ledger) == 0
    assert value_of(found, "headrace_time_to_loss_seconds", table="silver.events") == 3 * 3600


def test_a_check_that_passes_without_a_time_says_that_nothing_is_lost_ever(
    settings: Settings, platform: WatchedPlatform
) -> None:
    platform.run_checks(passed=True)
    found = read(PlatformCollector(settings, GROUPS, KEYS))
    assert value_of(found, "headrace_time_to_loss_seconds", table="silver.events") == math.inf


def test_what_is_not_known_is_left_out_and_a_host_of_older_code_is_read(
    settings: Settings, platform: WatchedPlatform
) -> None:
    watched = PlatformCollector(settings, GROUPS, KEYS)
    assert {name for name, _ in read(watched)} == {
        "headrace_storage_up", "headrace_disk_free_bytes", "headrace_disk_min_free_bytes"
    }  # fmt: skip
    say_as_older_code(platform.instance)
    found = read(watched)
    of_query = {"group": "clickstream", "query": "events"}
    assert value_of(found, "headrace_query_rows_total", **of_query) == 5
    assert value_of(found, "headrace_query_lag_records", **of_query) == 7
    assert not any(name.startswith(("headrace_batch", "headrace_query_lag_seconds")) for name, _ in found)
    assert not any("no_such_query" in str(labels) for _, labels in found)


def test_a_storage_that_is_away_is_a_metric_and_comes_back_by_itself(
    settings: Settings, platform: WatchedPlatform, caplog: pytest.LogCaptureFixture
) -> None:
    platform.beat()
    watched = PlatformCollector(settings, GROUPS, KEYS)
    assert value_of(read(watched), "headrace_storage_up") == 1
    away = platform.break_storage()
    for _ in range(2):
        found = read(watched)
        assert value_of(found, "headrace_storage_up") == 0
        assert value_of(found, "headrace_disk_free_bytes", folder="home") > 0
        assert not any(name.startswith("headrace_query") for name, _ in found)
    with pytest.raises(InstanceUnavailableError, match="does not answer"):
        watched.read()
    away.restore()
    assert value_of(read(watched), "headrace_storage_up") == 1
    said = [record.message for record in caplog.records if record.name == "jobs.watching.collector"]
    assert len(said) == 2 and "answers again" in said[1]


def test_a_storage_that_hangs_holds_no_scrape_for_long(
    settings: Settings, platform: WatchedPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform.beat()
    monkeypatch.setattr(collector, "_READ_SECONDS", 0.5)
    watched = PlatformCollector(settings, GROUPS, KEYS)
    # SQLite waits longer for its lock than a scrape for its answer.
    with platform.lock_storage(), pytest.raises(InstanceUnavailableError, match="has not answered"):
        watched.read()
    monkeypatch.setattr(collector, "_READ_SECONDS", 60.0)
    deadline = time.monotonic() + 60
    while value_of(read(watched), "headrace_storage_up") != 1:
        assert time.monotonic() < deadline


def test_without_an_instance_it_says_that_there_is_none(settings: Settings) -> None:
    with pytest.raises(NotReadyError, match="no Dagster instance"):
        PlatformCollector(settings, GROUPS, KEYS).read()


def test_a_port_that_is_taken_is_refused_with_the_setting(settings: Settings) -> None:
    watched = PlatformCollector(settings, GROUPS, KEYS)
    with serving_metrics(watched, "127.0.0.1", 0) as port:
        refused = pytest.raises(SettingError, match=f"HEADRACE_METRICS_PORT: port {port} of 127.0.0.1 cannot be had")
        with refused, serving_metrics(watched, "127.0.0.1", port):
            pass
    nobodys = "192.0.2.1"
    with pytest.raises(SettingError, match="HEADRACE_METRICS_ADDRESS"), serving_metrics(watched, nobodys, 0):
        pass


def test_serving_nothing_is_refused_with_the_setting(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADRACE_HOME", str(settings.home))
    load_settings.cache_clear()
    assert main(["metrics", "--serve"]) == 1
    assert capsys.readouterr().err.startswith("headrace: HEADRACE_METRICS_PORT is 0: ")


def test_what_a_host_uses_is_measured_with_the_children_of_its_jvm() -> None:
    me, watch = identify_myself(), UsageWatch()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        found = watch.look(me, me, 0.0)
        child.communicate(b"\n")
    assert found["host"]["rss_bytes"] > 20 * 1024 * 1024 and found["jvm"]["cpu_seconds"] > 0
    assert found["workers"]["rss_bytes"] > 0 and "cpu_seconds" not in found["workers"]
    assert watch.look(me, None, 14.0) is found
    assert set(watch.look(me, None, 15.0)) == {"host"}


def test_the_page_has_the_table_of_all_metrics() -> None:
    assert build_table() in (ROOT / "docs" / "watching.md").read_text()


_MILLIS = st.integers(0, 700_000) | st.sampled_from([int(bound * 1000) for bound in DURATION_BOUNDS])


@given(st.lists(st.fixed_dictionaries({WHOLE: _MILLIS, "addBatch": _MILLIS, "unknownPart": _MILLIS})))
def test_totals_are_sums_and_each_batch_counts_in_one_bucket(batches: list[dict[str, int]]) -> None:
    totals = BatchTotals()
    for millis in batches:
        totals = totals.add(millis)
    places = Counter(sum(each[WHOLE] > bound * 1000 for bound in DURATION_BOUNDS) for each in batches)
    assert totals.durations == tuple(places[place] for place in range(len(DURATION_BOUNDS) + 1))
    assert totals.batches == len(batches)
    assert totals.seconds == pytest.approx(sum(each[WHOLE] for each in batches) / 1000)
    if batches:
        assert tuple(totals.part_seconds) == PARTS
        assert totals.part_seconds["addBatch"] == pytest.approx(sum(each["addBatch"] for each in batches) / 1000)


@given(st.lists(st.floats(0, 1000)))
def test_a_bucket_has_all_that_is_not_longer_than_its_bound(seconds: list[float]) -> None:
    [spec] = [each for each in METRICS if each.kind == "histogram"]
    counts = Counter(bisect_left(DURATION_BOUNDS, each) for each in seconds)
    histogram = Histogram([counts[place] for place in range(len(DURATION_BOUNDS) + 1)], sum(seconds))
    [family] = build_families([Sample(spec, histogram, ("g", "q"))])
    assert isinstance(family, Metric)
    for sample in family.samples:
        if (bound := sample.labels.get("le")) is not None:
            assert sample.value == sum(each <= float(bound) for each in seconds)


def test_the_age_of_the_lag_is_asked_only_for_what_was_there_at_the_look_before() -> None:
    sent, asked, ends = datetime(2026, 1, 1, tzinfo=UTC), list[Any](), {0: (10, 10), 1: (5, 5)}

    def fetch_times(positions: Mapping[int, int]) -> Mapping[int, datetime]:
        asked.append(dict(positions))
        return dict.fromkeys(positions, sent)

    found = TopicEnds(lambda: ends, fetch_times)
    found.look()
    found.compare({0: 10, 1: 5})
    assert found.unread is not None and (found.unread.records, found.unread.since) == (0, None)
    ends = {0: (14, 20), 1: (6, 6)}  # six of them wait behind an open transaction
    found.look()
    asked.clear()
    found.compare({0: 10, 1: 5})
    assert (found.unread.records, found.unread.since, asked) == (5, None, [])
    found.look()
    found.compare({0: 12, 1: 6})
    assert (found.unread.records, found.unread.since, asked) == (2, sent, [{0: 12}])
