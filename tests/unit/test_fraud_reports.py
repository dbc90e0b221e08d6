"""Simulated reports of fraud: of payments that were sent, after them, in time or never, the same for the same seed."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from jobs.simulator import fraud_reports
from jobs.simulator.card_payments import CardPayments
from jobs.simulator.payment_profile import PaymentProfile
from jobs.simulator.profile import ShopProfile
from jobs.simulator.shop import Shop
from jobs.simulator.simulated_topic import CompanionRecord, Record
from jobs.simulator.simulated_topics import SHOP, find_simulation
from jobs.simulator.simulation import SimulationPlan
from platform_assets.errors import UsageError
from platform_assets.topics.fraud_reports import TOPIC

SECOND = 1_000_000
START = 1_800_000_000 * SECOND
HOUR = 3600 * SECOND
# Much fraud, soon noticed, with all that can happen to a record.
PROFILE = PaymentProfile(
    fraud=0.05, fraud_seconds=2, report_hours=0.3, false_reports=0.01, duplicates=0.1, late=0.05
).with_malformed(0.1)


def run(profile: PaymentProfile, hours: float = 8, seed: int = 3) -> tuple[list[Record], CardPayments]:
    payments = CardPayments(profile, seed)
    payments.accompany("reports")
    return list(payments.history(START, START + round(hours * HOUR), 2)), payments


def read(value: bytes | None) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(value or b"")
    return found


def read_sent(records: list[Record]) -> dict[str, dict[str, Any]]:
    """The payments by their id, those that are JSON with all fields."""
    found = {}
    for record in records:
        if type(record) is tuple and record[2] and record[2].startswith(b'{"transaction_id"'):
            try:
                payment = read(record[2])
            except ValueError:
                continue
            found[payment["transaction_id"]] = payment
    return found


def read_reports(records: list[Record]) -> list[dict[str, Any]]:
    return [read(record[2]) for record in records if isinstance(record, CompanionRecord)]


def moment(found: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(found["timestamp"])


def test_payments_are_the_same_with_reports_and_both_the_same_for_a_seed() -> None:
    records, payments = run(PROFILE)
    alone = CardPayments(PROFILE, 3)
    assert [record for record in records if type(record) is tuple] == list(alone.history(START, START + 8 * HOUR, 2))
    assert alone.tally == payments.tally
    assert run(PROFILE)[0] == records
    reports = read_reports(records)
    assert payments.counts == alone.counts | {"fraud_reports": len(reports)}
    assert len({each["report_id"] for each in reports}) == len(reports) > 1000


def test_a_report_is_of_a_payment_that_was_sent_before_it() -> None:
    records, _ = run(PROFILE)
    times = [record[0] for record in records]
    assert times == sorted(times) and times[-1] < START + 8 * HOUR
    seen: set[str] = set()
    sent = read_sent(records)
    for record in records:
        found = read(record[2]) if isinstance(record, CompanionRecord) else None
        if found is None:
            seen |= {text for text in [(record[2] or b"")[19:55].decode("latin-1")] if text in sent}
            continue
        assert isinstance(record, CompanionRecord) and record.topic == "reports"
        payment = sent[found["transaction_id"]]
        assert found["transaction_id"] in seen
        assert record[1].decode() == found["card_id"] == payment["card_id"]
        assert found["customer_id"] == payment["customer_id"]
        assert set(found) == {field.name for field in TOPIC.fields}
        assert found["source"] in ("customer", "issuer", "merchant")
        assert moment(found) > moment(payment)
        assert round(moment(found).timestamp() * 1000) == record[0] // 1000


def test_malformed_payments_have_no_report() -> None:
    profile = PROFILE.with_malformed(0.5)
    records, payments = run(profile, hours=3)
    broken = {"card_id": 4711, "amount": "12,30"}
    reported = {each["transaction_id"] for each in read_reports(records)}
    sent = read_sent(records)
    bad = {name for name, each in sent.items() if any(each.get(field) == value for field, value in broken.items())}
    assert len(bad) > 50 and not bad & reported
    assert reported <= sent.keys() and sum(payments.tally.malformed.values()) > 1000


def test_the_share_of_the_profile_is_reported_once_and_a_series_as_one() -> None:
    # A payment that arrives late would be reported when it has come.
    habits = {"report_hours": 0.01, "reported": 0.6, "refund_abuse": 0, "late": 0, "out_of_order": 0}
    profile = PROFILE.with_malformed(0).with_rates(habits)
    records, _ = run(profile)
    sent = read_sent(records)
    found = [each for each in read_reports(records) if sent[each["transaction_id"]]["is_fraud"]]
    assert {each["verdict"] for each in found} == {"fraud"}
    reported = {each["transaction_id"] for each in found}
    assert len(found) == len(reported)
    series: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for each in sent.values():
        # What ends in the last hours may not be reported yet.
        if each["is_fraud"] and moment(each) < datetime.fromisoformat("2027-01-15T14:00:00Z"):
            series[each["card_id"], each["device"]].append(each)
    whole = [own for own in series.values() if len(own) > 1]
    told = [{each["transaction_id"] in reported for each in own} for own in whole]
    assert len(whole) > 100 and all(len(each) == 1 for each in told)
    share = sum(True in each for each in told) / len(told)
    assert abs(share - 0.6) < 5 * math.sqrt(0.24 / len(told))
    at = {each["transaction_id"]: moment(each) for each in found}
    spread = [
        max(times) - min(times)
        for own in whole
        if (times := [at[n] for each in own if (n := each["transaction_id"]) in at])
    ]
    assert spread and max(spread) < timedelta(minutes=3, seconds=2)


def test_honest_payments_are_reported_by_mistake_and_cleared_later() -> None:
    profile = PROFILE.with_malformed(0).with_rates({"report_hours": 0.01})
    records, _ = run(profile)
    sent = read_sent(records)
    told: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for each in read_reports(records):
        if not sent[each["transaction_id"]]["is_fraud"]:
            told[each["transaction_id"]].append(each)
    honest = sum(not each["is_fraud"] and each["kind"] == "payment" for each in sent.values())
    assert abs(len(told) - 0.01 * honest) < 5 * math.sqrt(0.01 * honest)
    cleared = [own for own in told.values() if len(own) > 1]
    # Those of the last minutes are still to be cleared.
    assert len(cleared) > 0.9 * len(told)
    for own in cleared:
        assert [each["verdict"] for each in own] == ["fraud", "no_fraud"]
        assert moment(own[0]) < moment(own[1]) and own[1]["source"] == "issuer"
    assert all(own[0]["verdict"] == "fraud" for own in told.values())


def test_the_median_delay_is_that_of_the_profile() -> None:
    records, _ = run(PROFILE.with_malformed(0).with_rates({"fraud": 0, "report_hours": 0.1, "late": 0}), hours=12)
    sent = read_sent(records)
    delays = sorted(
        moment(each) - moment(sent[each["transaction_id"]])
        for each in read_reports(records)
        if each["verdict"] == "fraud"
    )
    # Up to three minutes come on top.
    assert timedelta(minutes=6) < delays[len(delays) // 2] < timedelta(minutes=10)


def test_with_the_default_delay_a_short_run_has_no_report_and_a_long_one_has() -> None:
    assert not read_reports(run(PaymentProfile(), hours=0.5)[0])
    assert read_reports(run(PaymentProfile(fraud=0.02), hours=26)[0])


def test_live_reports_come_when_they_are_due() -> None:
    payments = CardPayments(PROFILE.with_rates({"fraud_seconds": 0.01, "report_hours": 0.001}), 4)
    payments.accompany("reports")
    records = list(payments.live(START, 200, duration_seconds=60))
    reports = read_reports(records)
    assert len(reports) > 50
    times = [record[0] for record in records]
    assert times == sorted(times) and times[-1] < START + 60 * SECOND


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    all_of_them = len(read_reports(run(PROFILE, hours=2)[0]))
    monkeypatch.setattr(fraud_reports, "_MOST_WAITING", 5)
    assert 5 <= len(read_reports(run(PROFILE, hours=2)[0])) < all_of_them / 2


def test_a_plan_addresses_reports_and_counts_them_among_its_records() -> None:
    simulation = find_simulation("transactions")
    assert simulation.name_companion("card-transactions") == TOPIC.kafka_topic
    assert simulation.name_companion("mine") == "mine-fraud-reports"
    assert SHOP.name_companion("shop-events") == ""
    profile = PROFILE.with_rates({"fraud_seconds": 0.01, "report_hours": 0.001})
    plan = SimulationPlan(profile=profile, seed=3, rate=300, count=20_000)
    records: Iterator[Record] = plan.records(topic := plan.open(), "mine-fraud-reports")
    found = list(records)
    reports = [record for record in found if isinstance(record, CompanionRecord)]
    assert len(found) == 20_000 == topic.tally.records + topic.counts["fraud_reports"]
    assert {record.topic for record in reports} == {"mine-fraud-reports"}
    with pytest.raises(UsageError, match="No other topic follows from a Shop"):
        Shop(ShopProfile(), 1).accompany("reports")


@pytest.mark.parametrize("changes", [{"reported": 1.1}, {"report_hours": 0}, {"false_reports": -1}])
def test_bad_habits_of_reports_are_refused_by_name(changes: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(changes))):
        PaymentProfile().with_rates(changes)
