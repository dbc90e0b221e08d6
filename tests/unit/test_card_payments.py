"""Simulated card payments: reproducible, truthful about themselves, within the contract except where they break it."""

from __future__ import annotations

import functools
import itertools
import json
import math
import re
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.simulator.card_payments import CardPayments
from jobs.simulator.faults import corrupt
from jobs.simulator.payment_encoding import CARD_RECORD
from jobs.simulator.payment_profile import PaymentProfile
from jobs.simulator.simulated_topic import Record, Tally
from jobs.simulator.simulated_topics import SHOP, find_simulation
from jobs.simulator.simulation import SimulationPlan, parse_malformed
from platform_assets.errors import UsageError
from platform_assets.streaming.event_rules import EventRules
from platform_assets.streaming.ingest.record_parser import parse_batch
from platform_assets.topics.transactions import TOPIC

SECOND = 1_000_000
START = 1_800_000_000 * SECOND
HOUR = 3600 * SECOND
MOST_BYTES = 1_048_576
QUIET = {"late": 0.0, "out_of_order": 0.0, "duplicates": 0.0, "unknown_fields": 0.0}
CLEAN = PaymentProfile().with_malformed(0).with_rates(QUIET)
KNOWN = {each.name for each in TOPIC.fields}
AMOUNT = re.compile(rb'"amount":\d+\.\d\d,')


def history(profile: PaymentProfile, seed: int, hours: float = 2, rate: float = 2) -> tuple[list[Record], Tally]:
    payments = CardPayments(profile, seed)
    return list(payments.history(START, START + round(hours * HOUR), rate)), payments.tally


def read(value: bytes | None) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(value or b"", parse_float=Decimal)
    return found


def transactions(profile: PaymentProfile, seed: int, hours: float = 12, rate: float = 3) -> list[dict[str, Any]]:
    return [read(value) for _, _, value in history(profile, seed, hours, rate)[0]]


def moment(found: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(found["timestamp"])


def judge(values: list[bytes | None]) -> list[str | None]:
    """The reason for which the stream's own parser quarantines each of these values, None for an accepted one."""
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
    parsed = parse_batch(batch, TOPIC, START + 24 * HOUR, MOST_BYTES, EventRules())
    reasons: list[str | None] = parsed.column("_reason").to_pylist()
    return reasons


@given(seed=st.integers(0, 2**40), hours=st.floats(0.05, 3), rate=st.floats(0.05, 5))
@settings(max_examples=6, deadline=None)
def test_same_seed_gives_same_bytes(seed: int, hours: float, rate: float) -> None:
    assert history(PaymentProfile(), seed, hours, rate) == history(PaymentProfile(), seed, hours, rate)


def test_same_seed_at_another_start_gives_other_ids_of_the_same_cards() -> None:
    one, two = (list(CardPayments(CLEAN, 1).history(start, start + HOUR, 1)) for start in (START, START + 1))
    ids, others = ({read(value)["transaction_id"] for _, _, value in run} for run in (one, two))
    assert ids and others and not ids & others
    owners = [{read(v)["card_id"]: read(v)["customer_id"] for _, _, v in run} for run in (one, two)]
    assert all(owners[1].get(card, owner) == owner for card, owner in owners[0].items())


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
    profile = PaymentProfile().with_malformed(malformed)
    records, tally = history(
        profile.with_rates({"duplicates": duplicates, "late": late, "unknown_fields": unknown}), seed, hours=0.5
    )
    values = [value for _, _, value in records]
    reasons = judge(values)
    good = [value for value, reason in zip(values, reasons, strict=True) if reason is None]
    unique = set(good)
    assert tally.records == len(records)
    assert tally.malformed == dict(Counter(reason for reason in reasons if reason))
    assert tally.valid == len(unique) == len({read(value)["transaction_id"] for value in good})
    assert tally.duplicates == len(good) - len(unique)
    assert tally.unknown_fields == sum(bool(set(read(value)) - KNOWN) for value in unique)


def test_valid_transactions_obey_the_contract_and_the_key_is_the_card() -> None:
    records, _ = history(CLEAN, 11, hours=6)
    assert set(judge([value for _, _, value in records])) == {None}
    for sent_at, key, value in records:
        found = read(value)
        assert key.decode() == found["card_id"]
        assert AMOUNT.search(value or b""), "a JSON number with two digits"
        assert found["amount"] > 0
        assert found["currency"] != "JPY" or found["amount"] == int(found["amount"])
        assert set(found) == KNOWN
        assert moment(found).timestamp() * SECOND <= sent_at
    assert [sent_at for sent_at, _, _ in records] == sorted(sent_at for sent_at, _, _ in records)


def within(observed: int, trials: int, rate: float) -> bool:
    """Whether a count lies within five standard deviations of what its rate says."""
    return abs(observed - trials * rate) <= 5 * math.sqrt(trials * rate * (1 - rate)) + 1


def test_rates_are_what_the_profile_says() -> None:
    profile = PaymentProfile(
        late=0.0, out_of_order=0.1, duplicates=0.05, unknown_fields=0.2, refunds=0.1, without_country=0.15
    ).with_malformed(0.08)
    records, tally = history(profile, 8, hours=20, rate=3)
    assert abs(len(records) / (20 * 3600 * 3) - 1) < 0.25  # the hours of the day swing around the mean
    assert within(tally.out_of_order, tally.valid, 0.1)
    assert within(tally.duplicates, tally.valid, 0.05)
    assert within(tally.unknown_fields, tally.valid, 0.2)
    assert set(tally.malformed) == set(PaymentProfile.faults) - {"oversized"}
    assert all(within(count, tally.valid, 0.01) for count in tally.malformed.values())
    good = [found for found in transactions(profile.with_malformed(0), 8) if not found["is_fraud"]]
    kinds = Counter(found["kind"] for found in good)
    assert within(kinds["refund"], kinds["refund"] + kinds["payment"], 0.1)
    assert within(sum(found["country"] is None for found in good), len(good), 0.15)


def test_a_reversal_follows_its_payment_soon_with_all_of_its_amount() -> None:
    found = transactions(CLEAN.with_rates({"reversals": 0.05}), 5)
    names = ("card_id", "merchant_id", "amount", "currency", "device")
    paid: dict[tuple[Any, ...], list[datetime]] = defaultdict(list)
    for each in found:
        if each["kind"] == "payment":
            paid[tuple(each[name] for name in names)].append(moment(each))
    undone = [each for each in found if each["kind"] == "reversal" and moment(each).timestamp() * SECOND > START + HOUR]
    assert len(undone) > 100
    for each in undone:
        before = [moment(each) - at for at in paid[tuple(each[name] for name in names)]]
        assert any(timedelta(0) < pause <= timedelta(seconds=40 * 12) for pause in before)


def test_most_cards_pay_at_home_and_travellers_stay_where_they_are() -> None:
    found = transactions(CLEAN.with_rates({"fraud": 0, "without_country": 0, "travellers": 0.1}), 6, hours=8)
    assert START // (7 * 24 * HOUR) == (START + 8 * HOUR) // (7 * 24 * HOUR), "one week"
    places: dict[str, set[str]] = defaultdict(set)
    for each in found:
        if each["channel"] in ("chip", "contactless", "cash"):
            places[each["card_id"]].add(each["country"])
    assert all(len(countries) == 1 for countries in places.values())
    home = transactions(CLEAN.with_rates({"fraud": 0, "without_country": 0, "travellers": 0}), 6, hours=8)
    at_home = {each["card_id"]: each["country"] for each in home if each["channel"] in ("chip", "contactless", "cash")}
    abroad = sum(places[card] != {country} for card, country in at_home.items() if card in places)
    # One of ten travellers' countries is their own.
    assert within(abroad, sum(card in places for card in at_home), 0.1 * 0.86)


def test_skew_makes_busy_cards_and_popular_merchants_and_categories_differ() -> None:
    found = transactions(CLEAN, 9, hours=10)
    cards, merchants = (
        [count for _, count in Counter(each[name] for each in found).most_common()]
        for name in ("card_id", "merchant_id")
    )
    assert cards[0] > 5 * cards[len(cards) // 2]
    assert merchants[0] > 20 * merchants[len(merchants) // 2]
    amounts: dict[str, list[Decimal]] = defaultdict(list)
    for each in found:
        if each["currency"] == "EUR" and not each["is_fraud"]:
            amounts[each["merchant_category"]].append(each["amount"])
    middle = {name: sorted(own)[len(own) // 2] for name, own in amounts.items()}
    assert middle["transport"] < middle["grocery"] < middle["electronics"] < middle["travel"]


PATTERNS = ("card_testing", "takeover", "price_probing", "refund_abuse")


def find_series(pattern: str, after_hours: int = 1) -> list[list[dict[str, Any]]]:
    """The transactions of each card that this pattern alone has hit, in order, begun in the middle of a history."""
    rates = {name: float(name == pattern) for name in PATTERNS} | {"rings": 0.0}
    found = transactions(CLEAN.with_rates({"fraud": 0.02, "without_country": 0, **rates}), 10, hours=16)
    # The first hours lack what began before them.
    assert 0.01 < sum(each["is_fraud"] for each in found) / len(found) < 0.025
    series: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for each in found:
        if each["is_fraud"]:
            series[each["card_id"], "" if pattern == "refund_abuse" else each["device"]].append(each)
    whole = [sorted(own, key=moment) for own in series.values()]
    begun = [(moment(own[0]).timestamp() * SECOND - START) / HOUR for own in whole]
    whole = [own for own, hours in zip(whole, begun, strict=True) if after_hours < hours < 14]
    assert len(whole) > 50
    return whole


def homes() -> dict[str, str]:
    found = transactions(CLEAN.with_rates({"fraud": 0, "without_country": 0, "travellers": 0}), 10, hours=16)
    return {each["card_id"]: each["country"] for each in found if each["channel"] in ("chip", "contactless", "cash")}


def test_a_card_test_is_many_payments_in_many_countries_within_minutes() -> None:
    series = find_series("card_testing")
    for own in series:
        assert 6 <= len(own) <= 16 and moment(own[-1]) - moment(own[0]) < timedelta(minutes=20)
        assert {each["kind"] for each in own} == {"payment"}
    assert sum(len({each["country"] for each in own}) >= 4 for own in series) > 0.8 * len(series)


def test_a_takeover_is_in_one_country_that_is_not_the_cards_and_on_a_new_device() -> None:
    home, used = homes(), Counter[str]()
    for own in find_series("takeover"):
        assert 2 <= len(own) <= 6 and len({each["country"] for each in own}) == 1
        assert {each["kind"] for each in own} == {"payment"}
        used[own[0]["device"]] += 1
        if own[0]["card_id"] in home:
            used["abroad" if own[0]["country"] != home[own[0]["card_id"]] else "at home"] += 1
    abroad, at_home = used.pop("abroad"), used.pop("at home", 0)
    # A traveller may be robbed where he is, and the thief then pays at the card's home.
    assert abroad > 20 and at_home < 0.1 * abroad and set(used.values()) == {1}


def test_a_probe_asks_one_online_shop_for_more_each_time() -> None:
    for own in find_series("price_probing"):
        assert 4 <= len(own) <= 9 and {each["channel"] for each in own} == {"online"}
        assert len({each["merchant_id"] for each in own}) == 1
        amounts = [each["amount"] for each in own]
        assert amounts == sorted(amounts) and amounts[-1] > 2 * amounts[0]


def test_abused_refunds_give_one_purchase_back_again_and_again() -> None:
    series = find_series("refund_abuse", after_hours=10)
    for own in series:
        assert len({each["merchant_id"] for each in own}) == 1
        assert own[0]["kind"] == "payment" and {each["kind"] for each in own[1:]} <= {"refund"}
        assert all(each["amount"] >= own[0]["amount"] * Decimal("0.99") for each in own)
    assert any(len(own) > 4 for own in series)


def devices_of_series(profile: PaymentProfile, hours: float, seed: int = 10) -> dict[str, set[str]]:
    """The cards that were robbed on each device, of all patterns."""
    found: dict[str, set[str]] = defaultdict(set)
    for each in transactions(profile, seed, hours, rate=0.5):
        if each["is_fraud"] and each["kind"] == "payment":
            found[each["device"]].add(each["card_id"])
    return found


def test_a_ring_pays_by_many_stolen_cards_from_few_devices_that_change_after_days() -> None:
    profile = CLEAN.with_rates({"fraud": 0.05, "rings": 0.6, "refund_abuse": 0, "daily_swing": 0})
    used = devices_of_series(profile.with_rates({"ring_devices": 3, "ring_days": 400}), hours=48)
    shared = {device: cards for device, cards in used.items() if len(cards) > 3}
    # At most one of three changes within two days.
    assert 3 <= len(shared) <= 4 and min(map(len, shared.values())) > 20
    in_rings, alone = sum(map(len, shared.values())), len(used) - len(shared)
    assert within(in_rings, in_rings + alone, 0.6)
    assert len(devices_of_series(profile.with_rates({"rings": 0}), hours=48)) > 2 * alone
    # In two days of which each is the life of a device, three begin with one and take two more.
    changing = devices_of_series(profile.with_rates({"ring_devices": 3, "ring_days": 1}), hours=48)
    assert 6 <= sum(len(cards) > 3 for cards in changing.values()) <= 9
    own = {each["device"] for each in transactions(CLEAN.with_rates({"fraud": 0}), 10, hours=48, rate=0.5)}
    assert not own & changing.keys()


def test_a_later_run_goes_on_with_the_devices_of_the_rings() -> None:
    profile = CLEAN.with_rates({"fraud": 0.05, "rings": 1, "refund_abuse": 0, "ring_days": 400, "population": 3})

    def ask(seed: int, begin: int) -> set[str]:
        rows = (read(value) for _, _, value in CardPayments(profile, seed).history(begin, begin + 24 * HOUR, 0.5))
        used = Counter(each["device"] for each in rows if each["is_fraud"] and each["channel"] == "online")
        return {device for device, count in used.items() if count > 20}

    first = ask(1, START)
    assert len(first) >= 5
    # The same seed, and another one with the same population; one of the five may change in between.
    assert len(first & ask(1, START + 30 * HOUR)) >= 4 and len(first & ask(2, START + 30 * HOUR)) >= 4
    assert not first & ask(1, START + 500 * 24 * HOUR)


def test_a_card_pays_with_another_device_on_a_share_of_its_days() -> None:
    profile = CLEAN.with_rates({"fraud": 0, "customers": 300, "second_card": 0, "reversals": 0})
    online = [
        [each for each in transactions(profile.with_rates({"other_devices": share}), 4, 48, 0.5)
         if each["channel"] in ("online", "recurring")]
        for share in (0.2, 0)
    ]  # fmt: skip
    own = {each["card_id"]: each["device"] for each in online[1]}
    assert all(each["device"] == own[each["card_id"]] for each in online[1])
    days: dict[tuple[str, str], set[str]] = defaultdict(set)
    for each in online[0]:
        days[each["card_id"], each["timestamp"][:10]].add(each["device"])
    assert all(len(devices) == 1 for devices in days.values())
    others = [device for (card, _), devices in days.items() for device in devices if device != own[card]]
    assert within(len(others), len(days), 0.2) and len(set(others)) == len(others)


def test_rings_change_nothing_but_devices() -> None:
    with_rings, without = (transactions(CLEAN.with_rates({"fraud": 0.05, "rings": share}), 4, 3) for share in (1, 0))
    assert [{**each, "device": ""} for each in with_rings] == [{**each, "device": ""} for each in without]
    changed = [a for a, b in zip(with_rings, without, strict=True) if a != b]
    assert changed and all(each["is_fraud"] for each in changed)


def test_patterns_come_together_and_none_without_fraud() -> None:
    found = transactions(CLEAN.with_rates({"fraud": 0.02}), 10, hours=10)
    assert 0.012 < sum(each["is_fraud"] for each in found) / len(found) < 0.025
    assert {each["kind"] for each in found if each["is_fraud"]} == {"payment", "refund"}
    assert not any(each["is_fraud"] for each in transactions(CLEAN.with_rates({"fraud": 0}), 10))
    with pytest.raises(UsageError, match="All patterns of fraud are 0"):
        CLEAN.with_rates(dict.fromkeys(PATTERNS, 0))


def test_live_records_are_evenly_spaced_at_the_rate() -> None:
    records = list(CardPayments(PaymentProfile(), 2).live(START, 200, duration_seconds=60))
    assert abs(len(records) / (200 * 60) - 1) < 0.02
    per_second = Counter((sent_at - START) // SECOND for sent_at, _, _ in records)
    assert min(per_second.values()) > 150 and max(per_second.values()) < 250


def test_unlimited_live_timestamps_never_exceed_the_clock() -> None:
    now = START

    def clock() -> int:
        nonlocal now
        now += SECOND // 10
        return now

    for sent_at, _, _ in itertools.islice(CardPayments(PaymentProfile(), 2).live(START, None, clock=clock), 20_000):
        assert sent_at <= now


@functools.cache
def valid_values(seed: int) -> list[bytes]:
    records = itertools.islice(CardPayments(CLEAN, seed).history(START, START + HOUR, 0.01), 5)
    values = [value for _, _, value in records if value is not None]
    assert values
    return values


@pytest.mark.parametrize("fault", PaymentProfile.faults)
def test_each_malformed_record_breaks_the_rule_it_is_named_for(fault: str) -> None:
    broken = [corrupt(CARD_RECORD, fault, valid, n) for n in range(40) for valid in valid_values(n % 3)]
    assert set(judge(broken)) == {fault}
    assert len(set(broken)) > 1 or fault == "tombstone"


BAD = [{"refunds": -0.1}, {"customers": 0}, {"fraud_seconds": 0}, {"ring_days": 0}, {"ring_devices": 0}, {"users": 5}]


@pytest.mark.parametrize("changes", BAD)
def test_a_bad_profile_is_refused_by_name(changes: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(changes))):
        PaymentProfile().with_rates(changes)


def test_a_plan_runs_what_its_profile_is_of() -> None:
    simulation = find_simulation("transactions")
    assert find_simulation("clicks") is find_simulation(None) is SHOP
    profile = parse_malformed(simulation.profile(), ["0.08", "bad_value=0.5"])
    assert profile.not_json == pytest.approx(0.01)
    assert profile.fault_rates["bad_value"] == 0.5
    plan = SimulationPlan(profile=profile, seed=3, hours=1, count=100)
    assert plan.simulation is simulation
    records = list(plan.records(topic := plan.open()))
    assert isinstance(topic, CardPayments) and topic.tally.records == len(records) > 0
    assert (simulation.read_habit("customers", "12"), simulation.read_habit("refunds", "0.5")) == (12, 0.5)
    with pytest.raises(UsageError, match="The reasons are tombstone"):
        parse_malformed(simulation.profile(), ["no_reason=0.1"])
