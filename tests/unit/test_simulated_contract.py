"""Topics that are simulated by their contract: each record is what the tally says of it, whatever the topic."""

from __future__ import annotations

import dataclasses
import random
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from jobs.simulator.by_contract.contract_records import ContractRecords
from jobs.simulator.by_contract.contract_topic import ContractTopic, build_profile
from jobs.simulator.by_contract.matching_text import make_match
from jobs.simulator.simulated_topics import SHOP, find_of_profile, find_simulation
from platform_assets.errors import UsageError
from platform_assets.streaming.compression import decompress
from platform_assets.streaming.event_rules import EventRules
from platform_assets.streaming.ingest.reasons import RejectedRecordError
from platform_assets.streaming.ingest.record_contract import compile_contract
from platform_assets.streaming.topic_spec import EventTime, JsonValues, Record, TextLines, Topic, digits
from platform_assets.topics.events import TOPIC as EVENTS
from platform_assets.topics.transactions import TOPIC as TRANSACTIONS
from tests.access_log import TOPIC as REQUESTS
from tests.orders import TOPIC as ORDERS

pytestmark = pytest.mark.unit

START = 1_772_366_400_000_000
HOUR = 3_600_000_000


class Message(Record):
    at: str
    host: Annotated[str, Meta(examples=["a", "b"])]
    code: Annotated[int, Meta(ge=0, le=9)]
    text: str
    user: str | None = None


LINES = Topic(
    name="messages",
    description="Messages.",
    kafka_topic="messages",
    record=Message,
    event_time=EventTime("at"),
    subject="host",
    values=TextLines(
        r'<(?P<code>\d)>(?P<at>\S+) (?P<host>\S+)(?: user="?(?P<user>(?<=")[^"]*(?=")|[^\s"]+)"?)?: (?P<text>.*)'
    ),
)
LISTS = dataclasses.replace(ORDERS, values=JsonValues(is_list=True))
TOPICS = (ORDERS, REQUESTS, EVENTS, TRANSACTIONS, LINES, LISTS)
NAMES = ("orders", "requests", "events", "transactions", "lines", "lists")


def simulate(
    topic: Topic, seed: int = 1, malformed: float = 0.2, count: int = 600
) -> tuple[ContractTopic, list[bytes | None]]:
    profile = build_profile(topic)(duplicates=0.05, late=0.05).with_malformed(malformed)
    run = ContractTopic(profile, seed)
    return run, [value for _, _, value in run.history(START, START + HOUR, count / 3600)]


def judge(topic: Topic, value: bytes | None) -> str:
    if topic.is_list and value is not None and value.startswith(b"[") and value.endswith(b"]"):
        value = value[1:-1]
    try:
        compile_contract(topic).parse(value, 1_048_576, START + HOUR, EventRules())
    except RejectedRecordError as error:
        return error.reason
    return ""


@pytest.mark.parametrize("topic", TOPICS, ids=NAMES)
def test_each_record_is_what_the_tally_says(topic: Topic) -> None:
    run, values = simulate(topic)
    verdicts = Counter(judge(topic, value) for value in values)
    assert verdicts.pop("") == run.tally.valid + run.tally.duplicates
    assert verdicts == run.tally.malformed
    assert set(run.tally.malformed) == set(run.profile.faults) - {"oversized"}
    assert run.tally.records == len(values) > 400


@pytest.mark.parametrize("topic", TOPICS, ids=NAMES)
def test_ids_are_unique_but_for_what_is_sent_twice(topic: Topic) -> None:
    run, values = simulate(topic, malformed=0.0)
    if topic.event_id:
        assert len(set(values)) == run.tally.valid
    assert run.tally.duplicates > 5 and run.tally.late > 5


class OldMessage(Record):
    at: str
    text: str


def add_year(text: str) -> str:
    """The time with the year that makes it one of the last twelve months, as `new-topic` writes it."""
    now = datetime.now(UTC) + timedelta(days=1)
    years = [datetime.strptime(f"{year} {text} +0000", "%Y %b %d %H:%M:%S %z") for year in (now.year, now.year - 1)]
    return next(moment for moment in years if moment <= now).replace(tzinfo=None).isoformat()


def test_values_of_a_compressed_topic_are_the_same_ones_packed() -> None:
    _, plain = simulate(TOPICS[0])
    _, packed = simulate(dataclasses.replace(TOPICS[0], compression="zstd"))
    assert [None if value is None else decompress(value, "zstd", 10**7) for value in packed] == plain


def test_a_time_to_which_a_spelling_adds_the_year_is_made_in_each_season() -> None:
    lines = TextLines(r"(?P<at>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d) (?P<text>.*)")
    topic = Topic("old", "Old.", "old", OldMessage, EventTime("at"), values=lines, spellings={"at": add_year})
    assert "no_match" in build_profile(topic).faults
    now = datetime.now(UTC)
    for days in (0, 90, 180, 270):
        moment = (now - timedelta(days=days)).replace(microsecond=0)
        ContractRecords(topic).make(int(moment.timestamp() * 1e6), 1, 1)


def test_the_same_seed_gives_the_same_bytes() -> None:
    assert simulate(ORDERS, seed=7)[1] == simulate(ORDERS, seed=7)[1] != simulate(ORDERS, seed=8)[1]


def test_values_are_plausible() -> None:
    _, values = simulate(LINES, malformed=0.0)
    found = [compile_contract(LINES).parse(value, 10_000, START + HOUR, EventRules()).record for value in values]
    assert {each.user is None for each in found} == {True, False}
    assert len({each.host for each in found}) > 20, "the subject is one of many"
    _, paid = simulate(TRANSACTIONS, malformed=0.0)
    amounts = [msgspec.json.decode(value or b"")["amount"] for value in paid]
    assert 20 < sorted(amounts)[len(amounts) // 2] < 50


class Odd(Record):
    at: str
    share: Annotated[Decimal, digits(4, 2)]


def test_a_rule_that_nothing_passes_is_said() -> None:
    topic = Topic(
        name="odd", description="Odd.", kafka_topic="odd", record=Odd, event_time=EventTime("at"),
        rules=(lambda odd: ("never", "it never is"),),
    )  # fmt: skip
    with pytest.raises(UsageError, match=r"No record could be made that the topic odd accepts .*never: it never is"):
        build_profile(topic)


@pytest.mark.parametrize(
    "pattern",
    [
        r"\d{3}-\w+", r"[A-Z]{2}\Z", r"(a|bc)+d?", r"[^\"\s]+", r"(?P<x>\d+)-(?P=x)", r"a.c*", r"(?<=^)x|y",
        r"\S+@\S+\.org",
        r"[\d.]+%", r"(?:-|(?P<n>\d+))", r"(?i:abc)", r"[\w-]*\s\D",
    ],
)  # fmt: skip
@given(st.integers(0, 2**32))
def test_a_made_text_matches(pattern: str, seed: int) -> None:
    assert re.search(pattern, make_match(pattern, random.Random(seed)))


def test_a_topic_without_a_simulation_of_its_own_is_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    import platform_assets.topics

    monkeypatch.setattr(platform_assets.topics, "load_topics", lambda: (EVENTS, ORDERS, TRANSACTIONS))
    found = find_simulation("orders")
    assert found.title == "Records by the contract of orders"
    assert find_of_profile(found.profile()).title == found.title
    assert find_simulation("any-other-topic") is SHOP and find_simulation("events") is SHOP
    assert find_simulation("events-2") is SHOP
    for typo in ("transaction", "transactoins", "oders"):
        with pytest.raises(UsageError, match=r"There is no topic .*Did you mean .*--kafka-topic"):
            find_simulation(typo)
    assert find_simulation("transactions").title == "Simulated card payments"
