"""Simulated sensors: reproducible, truthful about themselves, within the contract except where they break it."""

from __future__ import annotations

import json
import statistics
from collections import Counter, defaultdict
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.simulator.faults import corrupt
from jobs.simulator.planted_anomalies import OTHER_UNITS, PATTERNS, Planted
from jobs.simulator.sensor_signals import SIGNALS
from jobs.simulator.simulated_topic import Record, Tally
from jobs.simulator.simulated_topics import find_simulation
from jobs.simulator.telemetry import SENSOR_RECORD, Telemetry
from jobs.simulator.telemetry_profile import TelemetryProfile
from platform_assets.errors import UsageError
from platform_assets.streaming.event_rules import EventRules
from platform_assets.streaming.ingest.record_parser import parse_batch
from platform_assets.topics.telemetry import TOPIC, UNITS

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
START = 1_800_000_000 * SECOND
QUIET = {"late": 0.0, "out_of_order": 0.0, "duplicates": 0.0, "unknown_fields": 0.0, "bad_readings": 0.0}
CLEAN = TelemetryProfile(sensors=8, patients=2).with_malformed(0).with_rates(QUIET)
KNOWN = {each.name for each in TOPIC.fields}
# 8 sensors of the city have 14 kinds of values, two patients as many.
CHANNELS = 28


def history(profile: TelemetryProfile, seed: int, hours: float, rate: float) -> tuple[list[Record], Tally]:
    telemetry = Telemetry(profile, seed)
    return list(telemetry.history(START, START + round(hours * HOUR), rate)), telemetry.tally


def read(value: bytes | None) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(value or b"")
    return found


def parse(values: list[bytes | None]) -> pa.RecordBatch:
    """What the stream's own parser makes of these values."""
    count = len(values)
    batch = pa.record_batch(
        {
            "key": pa.array([b"k"] * count, pa.binary()),
            "value": pa.array(values, pa.binary()),
            "partition": pa.array([0] * count, pa.int32()),
            "offset": pa.array(range(count), pa.int64()),
            "timestamp": pa.array([datetime.fromtimestamp(START / SECOND, UTC)] * count, pa.timestamp("us", "UTC")),
        }
    )
    return parse_batch(batch, TOPIC, START + 24 * HOUR, 1_048_576, EventRules())


def judge(values: list[bytes | None]) -> list[str | None]:
    """The reason for which each of these values is quarantined, None for an accepted one."""
    reasons: list[str | None] = parse(values).column("_reason").to_pylist()
    return reasons


@given(seed=st.integers(0, 2**40), hours=st.floats(0.05, 3), rate=st.floats(0.05, 5))
@settings(max_examples=6, deadline=None)
def test_same_seed_gives_same_bytes(seed: int, hours: float, rate: float) -> None:
    assert history(TelemetryProfile(), seed, hours, rate) == history(TelemetryProfile(), seed, hours, rate)


@given(
    seed=st.integers(0, 2**31),
    malformed=st.floats(0, 0.3),
    duplicates=st.floats(0, 0.3),
    late=st.floats(0, 0.5),
    unknown=st.floats(0, 0.5),
)
@settings(max_examples=8, deadline=None)
def test_tally_equals_what_the_stream_makes_of_the_records(
    seed: int, malformed: float, duplicates: float, late: float, unknown: float
) -> None:
    profile = TelemetryProfile(anomalies=0.5).with_malformed(malformed)
    records, tally = history(
        profile.with_rates({"duplicates": duplicates, "late": late, "unknown_fields": unknown}), seed, 0.5, 2
    )
    values = [value for _, _, value in records]
    reasons = judge(values)
    good = [value for value, reason in zip(values, reasons, strict=True) if reason is None]
    unique = set(good)
    assert tally.records == len(records)
    assert tally.malformed == dict(Counter(reason for reason in reasons if reason))
    ids = {tuple(read(value)[name] for name in TOPIC.event_id) for value in good}
    assert tally.valid == len(unique) == len(ids)
    assert tally.duplicates == len(good) - len(unique)
    assert tally.unknown_fields == sum(bool(set(read(value)) - KNOWN) for value in unique)


@pytest.mark.parametrize("fault", TelemetryProfile.faults)
def test_each_fault_is_quarantined_for_its_own_reason(fault: str) -> None:
    records, _ = history(CLEAN, 4, hours=0.2, rate=1)
    values = [corrupt(SENSOR_RECORD, fault, value or b"", n) for n, (_, _, value) in enumerate(records[:60])]
    assert set(judge(values)) == {fault}


def test_valid_readings_obey_the_contract_and_each_channel_speaks_in_turn() -> None:
    records, _ = history(CLEAN.with_rates({"anomalies": 0, "deteriorations": 0}), 11, hours=1, rate=CHANNELS / 60)
    found = [read(value) for _, _, value in records]
    assert set(judge([value for _, _, value in records])) == {None}
    assert all(key.decode() == each["sensor"] for (_, key, _), each in zip(records, found, strict=True))
    assert all(set(each) == KNOWN for each in found)
    counts = Counter((each["sensor"], each["kind"]) for each in found)
    assert len(counts) == CHANNELS and set(counts.values()) <= {59, 60, 61}
    assert [sent for sent, _, _ in records] == sorted(sent for sent, _, _ in records)
    assert {each["unit"] for each in found if each["kind"] == "air_temperature"} == {UNITS["air_temperature"][0]}


def test_a_live_record_has_the_present_time_and_the_values_of_its_channel() -> None:
    telemetry = Telemetry(CLEAN.with_rates({"anomalies": 0, "deteriorations": 0}), 7)
    found = [read(value) for _, _, value in telemetry.live(START, CHANNELS * 2.0, 30)]
    assert abs(len(found) - CHANNELS * 60) <= 1
    usual = {signal.kind: signal for signal in SIGNALS}
    for each in found:
        signal = usual[each["kind"]]
        most = signal.spread + signal.swing + 6 * signal.noise + 1
        assert abs(each["value"] - signal.middle) <= most, each


def by_channel(found: list[dict[str, Any]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    channels = defaultdict(list)
    for each in found:
        at = datetime.fromisoformat(each["timestamp"])
        channels[each["sensor"], each["kind"]].append(each | {"at": round(at.timestamp() * SECOND)})
    return channels


@pytest.fixture(scope="module")
def planted() -> list[tuple[Planted, list[dict[str, Any]], list[dict[str, Any]]]]:
    """Each anomaly of two days, with the channel's readings in it and in the hour before it."""
    profile = CLEAN.with_rates({"anomalies": 0.9, "deteriorations": 0.6})
    telemetry = Telemetry(profile, 5)
    end = START + 48 * HOUR
    channels = by_channel([read(value) for _, _, value in telemetry.history(START, end, CHANNELS / 30)])
    found = []
    for each in telemetry.list_planted(START + HOUR, end - 4 * HOUR):
        own = channels[each.sensor, each.kind]
        within = [reading for reading in own if each.start <= reading["at"] < each.end]
        before = [reading for reading in own if each.start - HOUR <= reading["at"] < each.start]
        assert before
        found.append((each, within, before))
    assert {each.pattern for each, _, _ in found} == set(PATTERNS[1:])
    return found


def values(readings: list[dict[str, Any]]) -> list[float]:
    return [reading["value"] for reading in readings]


def test_each_anomaly_is_in_the_readings(planted: Any) -> None:
    signals = {signal.kind: signal for signal in SIGNALS}
    for each, within, before in planted:
        signal = signals[each.kind]
        if each.pattern == "silence":
            assert not within
            continue
        assert within, each
        usual, now = statistics.median(values(before)), statistics.median(values(within))
        noise = 2 * signal.swing + 6 * signal.noise + 1
        if each.pattern == "stuck":
            assert len(set(values(within))) == 1
        elif each.pattern == "out_of_range":
            assert min(values(within)) >= signal.beyond > signal.greatest or signal.greatest == 1e5
        elif each.pattern == "unit_change":
            unit, added, factor = OTHER_UNITS[each.kind]
            assert {reading["unit"] for reading in within} == {unit} != {reading["unit"] for reading in before}
            assert abs(now / factor - added - usual) <= noise
        else:
            size = getattr(signal, each.pattern)
            assert abs(now - usual - size) <= noise, each


def test_a_patient_becomes_worse_in_all_signs_at_once(planted: Any) -> None:
    together: dict[tuple[str, int], set[str]] = defaultdict(set)
    for each, _, _ in planted:
        if each.pattern == "deterioration":
            together[each.sensor, each.start].add(each.kind)
    assert together
    assert {frozenset(kinds) for kinds in together.values()} == {frozenset(s.kind for s in SIGNALS if s.deterioration)}


def test_the_population_keeps_its_sensors_and_its_anomalies_with_any_seed() -> None:
    profile = CLEAN.with_rates({"population": 9, "anomalies": 0.5})
    first, second = (Telemetry(profile, seed).list_planted(START, START + 24 * HOUR) for seed in (1, 2))
    assert first and first == second
    assert first != Telemetry(CLEAN.with_rates({"anomalies": 0.5}), 1).list_planted(START, START + 24 * HOUR)


def test_settings_that_cannot_be_used_are_refused() -> None:
    assert find_simulation("telemetry").profile is TelemetryProfile
    for rates, says in (
        ({"sensors": 0, "patients": 0}, "at least one"),
        ({"anomalies": 1.5}, "anomalies is 1.5"),
        ({"cards": 3}, "no setting cards"),
    ):
        with pytest.raises(UsageError, match=says):
            TelemetryProfile().with_rates(rates)


def test_two_spellings_of_one_moment_are_one_reading() -> None:
    reading = {"sensor": "s", "kind": "noise_level", "value": 40, "unit": "dB"}
    times = ("2027-01-15T08:00:00Z", "2027-01-15T09:00:00.000+01:00", "2027-01-15T08:00:00.000001Z")
    values: list[bytes | None] = [json.dumps(reading | {"timestamp": time}).encode() for time in times]
    ids = parse(values).column("event_id").to_pylist()
    assert ids[0] == ids[1] != ids[2]
