"""Simulated access logs: reproducible, truthful about themselves, within the contract except where they break it."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from jobs.simulator.access_log_profile import PATTERNS, AccessLogProfile
from jobs.simulator.access_logs import AccessLogs
from jobs.simulator.simulated_topic import Record, Tally
from jobs.simulator.simulated_topics import find_simulation
from jobs.simulator.simulation import SimulationPlan, parse_malformed
from platform_assets.errors import UsageError
from platform_assets.streaming.event_rules import EventRules
from platform_assets.streaming.ingest.record_parser import parse_batch
from platform_assets.topics.access_logs import TOPIC
from tests.log_lines import as_batch

SECOND = 1_000_000
HOUR = 3600 * SECOND
# A Monday.
START = int(datetime(2026, 11, 2, tzinfo=UTC).timestamp()) * SECOND
CLEAN = AccessLogProfile(late=0.0, out_of_order=0.0).with_malformed(0)


def history(profile: AccessLogProfile, seed: int, hours: float = 2, rate: float = 2) -> tuple[list[Record], AccessLogs]:
    lines = AccessLogs(profile, seed)
    return list(lines.history(START, START + round(hours * HOUR), rate)), lines


def parse(records: list[Record]) -> list[dict[str, Any]]:
    batch = as_batch([value for _, _, value in records], datetime.fromtimestamp(START / SECOND, UTC))
    return parse_batch(batch, TOPIC, START + 30 * 24 * HOUR, 1_048_576, EventRules()).to_pylist()


@given(seed=st.integers(0, 2**40), hours=st.floats(0.05, 1), rate=st.floats(0.05, 3))
@settings(max_examples=4, deadline=None)
def test_same_seed_gives_same_bytes(seed: int, hours: float, rate: float) -> None:
    profile = AccessLogProfile()
    assert history(profile, seed, hours, rate)[0] == history(profile, seed, hours, rate)[0]


@given(seed=st.integers(0, 2**31), malformed=st.floats(0, 0.3), late=st.floats(0, 0.5))
@settings(max_examples=5, deadline=None, phases=[Phase.generate])
def test_tally_equals_what_the_stream_makes_of_the_lines(seed: int, malformed: float, late: float) -> None:
    profile = AccessLogProfile(late=late, oversized=0.001).with_malformed(malformed)
    records, lines = history(profile, seed, hours=0.1)
    reasons = Counter(row["_reason"] for row in parse(records))
    tally: Tally = lines.tally
    assert tally.records == len(records)
    assert tally.valid == reasons.pop(None, 0)
    assert tally.malformed == dict(reasons)


def test_every_fault_is_sent_and_quarantined_for_its_reason() -> None:
    _, lines = history(AccessLogProfile(oversized=0.001).with_malformed(0.6), 3, hours=0.2)
    assert set(lines.tally.malformed) | {"oversized"} == set(AccessLogProfile.faults)


def test_valid_lines_are_of_both_services_and_say_when_they_were_written() -> None:
    records, _ = history(CLEAN, 11, hours=1)
    rows = parse(records)
    assert {row["_reason"] for row in rows} == {None}
    assert {row["service"] for row in rows} == {"web", "sshd"}
    for (sent_at, key, _), row in zip(records, rows, strict=True):
        behind = sent_at - int(row["event_time"].timestamp() * SECOND)
        assert 0 <= behind < SECOND
        assert key.decode() == row["host"]
        assert row["outcome"] in (None, "failed", "accepted") and (row["outcome"] is None) == (row["service"] == "web")


def test_attacks_are_the_share_of_lines_that_was_asked_for_and_are_remembered() -> None:
    records, lines = history(dataclasses.replace(CLEAN, attacks=0.3, bursts=0.0), 5, hours=8, rate=0.15)
    rows = parse(records)
    planted = {lines.find_network(number) for attack in lines.planted for number in attack.networks}
    of_attack = sum(row["network"] in planted for row in rows)
    # An attack is some hundred lines: the share follows few of them.
    assert 0.15 < of_attack / len(rows) < 0.45
    assert {attack.pattern for attack in lines.planted} == set(PATTERNS) - {"bursts"}
    # Only attackers' networks are attackers'.
    assert {row["network"] for row in rows if row["network"].startswith(("198.18.", "2001:db8:bad:"))} <= planted


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_is_what_it_says(pattern: str) -> None:
    weights = dict.fromkeys(PATTERNS, 0.0) | {pattern: 1.0}
    records, lines = history(CLEAN.with_rates({"attacks": 0.5, **weights}), 7, hours=4, rate=0.4)
    by_network = defaultdict(list)
    for row in parse(
        [each for each in records if b" 198.18." in (each[2] or b"") or b" 2001:db8:bad:" in (each[2] or b"")]
    ):
        by_network[row["network"]].append(row)
    begun = (attack for attack in lines.planted if attack.first >= START)
    whole = [attack for attack in begun if attack.last < START + 4 * HOUR - 60 * SECOND]
    assert whole
    for attack in whole:
        rows = [row for number in attack.networks for row in by_network[lines.find_network(number)]]
        rows = [
            r for r in rows if attack.first <= r["event_time"].timestamp() * SECOND + SECOND <= attack.last + 2 * SECOND
        ]
        assert len({row["host"] for row in rows}) == 1
        if pattern == "scans":
            assert len({row["path"] for row in rows}) == len(rows) >= 40 and {r["status"] for r in rows} <= {
                400,
                403,
                404,
            }
        elif pattern == "bursts":
            assert len(rows) >= 900 and attack.last - attack.first <= 60 * SECOND
        else:
            assert {row["outcome"] for row in rows} <= {"failed", "accepted"} and len(rows) >= 15
            assert pattern != "spread_guessing" or len({row["user_name"] for row in rows}) == 1


def test_the_weekend_is_quieter_and_the_week_is_as_long_as_was_asked() -> None:
    profile = dataclasses.replace(CLEAN, weekend=0.5, attacks=0.0)
    records, _ = history(profile, 2, hours=7 * 24, rate=0.05)
    days = Counter(datetime.fromtimestamp(sent_at / SECOND, UTC).weekday() for sent_at, _, _ in records)
    assert 0.4 < (days[5] + days[6]) / 2 / (sum(days[n] for n in range(5)) / 5) < 0.6
    assert len(records) == pytest.approx(0.05 * 7 * 24 * 3600, rel=0.05)


def test_the_topic_is_found_by_its_name_and_its_profile_can_be_set() -> None:
    simulation = find_simulation("access_logs")
    assert (simulation.profile, simulation.load_contract()) == (AccessLogProfile, TOPIC)
    plan = SimulationPlan(profile=parse_malformed(AccessLogProfile(), ["no_match=0.5"]), seed=1, hours=0.1)
    assert sum(1 for _ in plan.records(plan.open())) > 100


@pytest.mark.parametrize(
    "wrong", [{"hosts": 0}, {"weekend": 1.5}, dict.fromkeys(PATTERNS, 0.0), {"not_json": 0.1, "ipv6": -1.0}]
)
def test_a_setting_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        AccessLogProfile().with_rates(wrong)
