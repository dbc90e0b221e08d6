"""The simulated shop: reproducible, truthful about itself, within the contract except where it means to break it."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import math
import re
from collections import Counter, defaultdict
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.simulator.delivery_habits import FAULTS
from jobs.simulator.faults import SHOP_RECORD, corrupt
from jobs.simulator.profile import ShopProfile
from jobs.simulator.shop import Shop
from jobs.simulator.simulated_topic import Record, Tally
from jobs.simulator.simulation import SimulationPlan, parse_malformed
from platform_assets.errors import UsageError

SECOND = 1_000_000
START = 1_800_000_000 * SECOND
HOUR = 3600 * SECOND
CLEAN = ShopProfile().with_malformed(0).with_rates({"late": 0, "out_of_order": 0, "duplicates": 0, "unknown_fields": 0})
STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.(\d{3}|\d{6})Z")

TEXTS = ("event_id", "event_type", "timestamp", "user_id", "product_id", "product_name", "category", "session_id")
KNOWN = {*TEXTS, "device_type", "country", "price", "quantity", "revenue"}


def history(profile: ShopProfile, seed: int, hours: float = 2, rate: float = 2) -> tuple[list[Record], Tally]:
    shop = Shop(profile, seed)
    return list(shop.history(START, START + round(hours * HOUR), rate)), shop.tally


def microseconds(stamp: str) -> int:
    return (datetime.fromisoformat(stamp) - datetime.fromisoformat("1970-01-01T00:00:00Z")) // timedelta(microseconds=1)


def why_refused(value: bytes | None) -> str | None:
    """An oracle of its own for the contract in the design: the reason of a quarantined record, None for a good one."""
    if value is None:
        return "tombstone"
    if len(value) > 1_048_576:
        return "oversized"
    try:
        event: Any = json.loads(value.decode("utf-8"))
    except ValueError:
        return "not_json"
    if any(event.get(name) is None for name in ("event_id", "event_type", "timestamp", "user_id")):
        return "missing_field"
    kinds: dict[str, Any] = dict.fromkeys((*TEXTS, "device_type", "country"), str)
    kinds |= {"price": (int, float), "revenue": (int, float), "quantity": int}
    if any(event.get(name) is not None and not isinstance(event[name], kind) for name, kind in kinds.items()):
        return "wrong_type"
    if abs(event.get("quantity") or 0) >= 2**31:
        return "wrong_type"
    if event["event_type"] not in ("page_view", "add_to_cart", "remove_from_cart", "purchase"):
        return "unknown_event_type"
    try:
        at = microseconds(event["timestamp"])
    except ValueError:
        return "bad_timestamp"
    if not microseconds("2000-01-01T00:00:00Z") <= at <= START + 10 * 365 * 24 * HOUR:
        return "bad_timestamp"
    return "negative_amount" if min(event[name] or 0 for name in ("price", "quantity", "revenue")) < 0 else None


@given(seed=st.integers(0, 2**40), hours=st.floats(0.05, 3), rate=st.floats(0.05, 5))
@settings(max_examples=8, deadline=None)
def test_same_seed_gives_same_bytes(seed: int, hours: float, rate: float) -> None:
    assert history(ShopProfile(), seed, hours, rate) == history(ShopProfile(), seed, hours, rate)


def test_same_seed_at_another_start_gives_other_ids() -> None:
    one = {json.loads(v)["event_id"] for _, _, v in Shop(CLEAN, 1).history(START, START + HOUR, 1) if v}
    two = {json.loads(v)["event_id"] for _, _, v in Shop(CLEAN, 1).history(START + 1, START + 1 + HOUR, 1) if v}
    assert one and two and not one & two


@given(
    seed=st.integers(0, 2**31),
    malformed=st.floats(0, 0.3),
    duplicates=st.floats(0, 0.3),
    late=st.floats(0, 0.5),
    unknown=st.floats(0, 0.5),
)
@settings(max_examples=12, deadline=None)
def test_tally_equals_what_was_handed_out(
    seed: int, malformed: float, duplicates: float, late: float, unknown: float
) -> None:
    profile = ShopProfile().with_malformed(malformed)
    profile = profile.with_rates({"duplicates": duplicates, "late": late, "unknown_fields": unknown})
    records, tally = history(profile, seed, hours=0.5)
    reasons = Counter(why_refused(value) for _, _, value in records)
    good = [value for _, _, value in records if value is not None and why_refused(value) is None]
    unique = set(good)
    assert tally.records == len(records)
    assert tally.malformed == {reason: count for reason, count in reasons.items() if reason}
    assert tally.valid == len(unique) == len({json.loads(value)["event_id"] for value in good})
    assert tally.duplicates == len(good) - len(unique)
    assert tally.unknown_fields == sum(bool(set(json.loads(value)) - KNOWN) for value in unique)


def test_tally_counts_only_records_taken() -> None:
    shop = Shop(ShopProfile(), 5)
    taken = list(itertools.islice(shop.live(START, 1000), 1234))
    assert shop.tally.records == len(taken) == 1234


def test_valid_events_obey_the_contract_and_the_key_is_the_user() -> None:
    records, tally = history(ShopProfile(), 11, hours=6)
    seen = 0
    for _, key, value in records:
        if why_refused(value) is not None:
            continue
        event = json.loads(value or b"")
        seen += 1
        assert key.decode() == event["user_id"]
        assert STAMP.fullmatch(event["timestamp"])
        assert event["quantity"] >= 1
        expected = round(event["price"] * event["quantity"], 2) if event["event_type"] == "purchase" else 0
        assert event["revenue"] == expected
    assert seen == tally.valid + tally.duplicates


def test_records_are_in_send_order_and_a_history_never_exceeds_its_end() -> None:
    records, _ = history(ShopProfile().with_malformed(0), 3, hours=4)
    times = [sent_at for sent_at, _, _ in records]
    assert times == sorted(times)
    assert times[0] >= START and times[-1] < START + 4 * HOUR
    for sent_at, _, value in records:
        assert microseconds(json.loads(value or b"")["timestamp"]) <= sent_at


def test_late_events_are_held_back_and_duplicates_follow_their_original() -> None:
    records, tally = history(ShopProfile().with_malformed(0), 4, hours=6)
    seen: set[bytes] = set()
    repeated = late = 0
    for sent_at, _, value in records:
        assert value is not None
        if value in seen:
            repeated += 1
            continue
        seen.add(value)
        late += sent_at - microseconds(json.loads(value)["timestamp"]) > 10 * SECOND
    assert repeated == tally.duplicates
    # An exponential delay of ten minutes is under ten seconds in 1.7 % of the cases.
    assert 0.9 * tally.late <= late <= tally.late


@given(seed=st.integers(0, 2**31))
@settings(max_examples=4, deadline=None)
def test_each_session_views_before_cart_before_removal_or_purchase(seed: int) -> None:
    for records in (
        history(CLEAN, seed, hours=3)[0],
        list(itertools.islice(Shop(CLEAN, seed).live(START, 100), 8_000)),
    ):
        events = [json.loads(value or b"") for _, _, value in records]
        sessions: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for event in sorted(events, key=lambda event: str(event["timestamp"]).rstrip("Z")):
            sessions[event["session_id"]].append(event)
        begun_before = 0
        for steps in sessions.values():
            assert len({(step["user_id"], step["device_type"], step["country"]) for step in steps}) == 1
            viewed: set[str] = set()
            cart: Counter[str] = Counter()
            complete = steps[0]["event_type"] == "page_view"
            for step in steps:
                product, kind = step["product_id"], step["event_type"]
                if kind == "page_view":
                    viewed.add(product)
                elif product not in viewed:
                    complete = False
                elif kind == "add_to_cart":
                    cart[product] += step["quantity"]
                else:
                    complete &= cart[product] >= step["quantity"]
                    cart[product] -= step["quantity"]
            begun_before += not complete
        # Only sessions that were under way when the run began may lack their beginning.
        assert begun_before <= 0.15 * len(sessions)
        late_start = [steps for steps in sessions.values() if steps[0]["event_type"] != "page_view"]
        assert all(microseconds(steps[0]["timestamp"]) < START + HOUR for steps in late_start)


def within(observed: int, trials: int, rate: float) -> bool:
    """Whether a count lies within five standard deviations of what its rate says."""
    return abs(observed - trials * rate) <= 5 * math.sqrt(trials * rate * (1 - rate)) + 1


def test_rates_are_what_the_profile_says() -> None:
    profile = ShopProfile(late=0.0, out_of_order=0.1, duplicates=0.05, unknown_fields=0.2).with_malformed(0.07)
    records, tally = history(profile, 8, hours=20, rate=3)
    assert abs(len(records) / (20 * 3600 * 3) - 1) < 0.25  # the hours of the day swing around the mean
    assert within(tally.out_of_order, tally.valid, 0.1)
    assert within(tally.duplicates, tally.valid, 0.05)
    assert within(tally.unknown_fields, tally.valid, 0.2)
    assert set(tally.malformed) == set(FAULTS) - {"oversized"}
    assert all(within(count, tally.valid, 0.01) for count in tally.malformed.values())


def test_conversion_follows_the_profile_and_skew_makes_heavy_users_and_popular_products() -> None:
    events = [json.loads(value or b"") for _, _, value in history(CLEAN, 9, hours=20, rate=3)[0]]
    views = sum(event["event_type"] == "page_view" for event in events)
    carts = sum(event["event_type"] == "add_to_cart" for event in events)
    # A product that is in the cart already is not added again, so a little less than the rate; bounces add nothing.
    assert 0.09 < carts / views < 0.12
    products = [count for _, count in Counter(event["product_id"] for event in events).most_common()]
    users = [count for _, count in Counter(event["user_id"] for event in events).most_common()]
    assert products[0] > 20 * products[len(products) // 2]
    assert users[0] > 5 * users[len(users) // 2]


def test_live_records_are_evenly_spaced_at_the_rate() -> None:
    records = list(Shop(ShopProfile(), 2).live(START, 200, duration_seconds=60))
    assert abs(len(records) / (200 * 60) - 1) < 0.02
    per_second = Counter((sent_at - START) // SECOND for sent_at, _, _ in records)
    assert min(per_second.values()) > 150 and max(per_second.values()) < 250


def test_live_timestamps_follow_the_clock_when_the_consumer_is_slow() -> None:
    now = START

    def clock() -> int:
        nonlocal now
        now += 5 * SECOND
        return now

    for sent_at, _, value in itertools.islice(Shop(CLEAN, 2).live(START, 100, clock=clock), 2000):
        assert sent_at == microseconds(json.loads(value or b"")["timestamp"]) or sent_at % 1000
    assert now - sent_at < 10 * SECOND


def test_unlimited_live_timestamps_never_exceed_the_clock() -> None:
    now = START

    def clock() -> int:
        nonlocal now
        now += SECOND // 10
        return now

    for sent_at, _, _ in itertools.islice(Shop(ShopProfile(), 2).live(START, None, clock=clock), 30_000):
        assert sent_at <= now


@functools.cache
def valid_events(seed: int) -> list[bytes]:
    """The first five, once for all faults: to open a shop takes a third of a second."""
    records = itertools.islice(Shop(CLEAN, seed).history(START, START + HOUR, 0.01), 5)
    values = [value for _, _, value in records if value is not None]
    assert values
    return values


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("variant", range(24))
def test_each_malformed_record_breaks_the_rule_it_is_named_for(fault: str, variant: int) -> None:
    for valid in valid_events(variant):
        assert why_refused(valid) is None
        assert why_refused(corrupt(SHOP_RECORD, fault, valid, variant)) == fault


@pytest.mark.parametrize(
    "changes",
    [
        {"late": -0.1},
        {"duplicates": 1.5},
        {"not_json": math.nan},
        {"users": 0},
        {"think_seconds": 0},
        {"tombstone": 0.6, "not_json": 0.6},
        {"no_such_habit": 1},
    ],
)
def test_bad_profile_is_refused_by_name(changes: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(changes)) if len(changes) == 1 else "malformed"):
        ShopProfile().with_rates(changes)


@pytest.mark.parametrize(
    "arguments",
    [{"rate": 0}, {"count": -1}, {"hours": 1, "duration_seconds": 2}, {"speed": 2}, {"hours": 1, "rate": math.inf}],
)
def test_bad_plan_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        SimulationPlan(**arguments)


def test_malformed_option_takes_a_total_or_a_reason() -> None:
    profile = parse_malformed(ShopProfile(), ["0.07", "oversized=0.5", "tombstone=0"])
    assert profile.not_json == pytest.approx(0.01)
    assert (profile.oversized, profile.tombstone) == (0.5, 0)
    for bad in ("lots", "no_reason=0.1", "not_json=2"):
        with pytest.raises(UsageError):
            parse_malformed(ShopProfile(), [bad])


def test_profile_is_a_value() -> None:
    assert ShopProfile() == ShopProfile()
    with pytest.raises(dataclasses.FrozenInstanceError):
        ShopProfile().late = 0.5  # type: ignore[misc]


def test_a_shop_of_two_currencies_names_each_and_yen_have_no_cents() -> None:
    profile = ShopProfile(second_currency=0.4, without_revenue=0.2).with_malformed(0)
    records, tally = history(profile, 5, hours=4)
    events = [json.loads(value or b"") for _, _, value in records]
    bought = [event for event in events if event["event_type"] == "purchase"]
    unknown = [event for event in bought if event["revenue"] is None]
    assert 0.1 < len(unknown) / len(bought) < 0.3
    for event in events:
        amounts = [event["price"], event["revenue"] or 0]
        assert event["currency"] in ("EUR", "JPY")
        assert event["currency"] == "EUR" or all(amount == int(amount) for amount in amounts)
    assert {event["currency"] for event in bought} == {"EUR", "JPY"}
    products = {event["product_id"]: event["currency"] for event in events}
    assert 0.35 < sum(code == "JPY" for code in products.values()) / len(products) < 0.45
    # A repetition is byte for byte the same, also in what it lacks.
    assert len({value for _, _, value in records}) == tally.valid
    plain, _ = history(dataclasses.replace(profile, second_currency=0.0, without_revenue=0.0), 5, hours=4)
    assert [key for _, key, _ in plain] == [key for _, key, _ in records]


def test_a_taste_changes_products_and_nothing_else() -> None:
    def tell(taste: float) -> list[dict[str, Any]]:
        records, _ = history(CLEAN.with_rates({"taste": taste}), 9)
        return [json.loads(value) for _, _, value in records if value is not None]

    alike, tasteful = tell(0.0), tell(0.7)
    kept = ("event_id", "timestamp", "user_id", "session_id", "event_type", "quantity", "device_type", "country")
    assert [[event[name] for name in kept] for event in alike] == [[event[name] for name in kept] for event in tasteful]
    assert [event["product_id"] for event in alike] != [event["product_id"] for event in tasteful]


def test_who_likes_an_aisle_looks_at_products_of_its_kind() -> None:
    def share_of_one_kind(taste: float) -> float:
        records, _ = history(CLEAN.with_rates({"taste": taste, "users": 5_000}), 9, hours=4, rate=4)
        sessions = defaultdict(list)
        for _, _, value in records:
            event = json.loads(value or b"")
            noun = event["product_name"].split(" ", 1)[1].rsplit(" ", 1)[0]
            sessions[event["session_id"]].append((event["category"], noun))
        shares = [max(Counter(kinds).values()) / len(kinds) for kinds in sessions.values() if len(kinds) > 5]
        return sum(shares) / len(shares)

    assert share_of_one_kind(0.9) > share_of_one_kind(0.0) + 0.2
