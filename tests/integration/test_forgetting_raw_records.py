"""A user is found in records that are no events: nested, encoded, cut; those read before and those that come."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from jobs.operations.explain import explain
from platform_assets.fraud.alerts_page import ALERTS_PAGE
from platform_assets.streaming.register.found_traces import AlsoErased
from resources.embedded.broker import BrokerState
from resources.kafka import KafkaResource
from resources.kafka_topics import ensure_topic
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.integration.streams_under_test import StreamsUnderTest
from tests.integration.supervised_platform import ROOT
from tests.integration.test_forget_user import (
    STREAMS,
    audit,
    build,
    forget,
    lakehouse_of,
    prove,
    prove_sound,
)
from tests.short_lived_jvm import ENVIRONMENT

USER, OTHER = "user-77", "bob"
NAMES = ("events", "sessions")


def of_user(user: Any = USER) -> dict[str, Any]:
    return {"event_id": "e-1", "event_type": "page_view", "timestamp": "2026-03-01T12:00:00Z", "user_id": user}


REFUSED = [
    json.dumps([of_user()]),
    json.dumps(json.dumps(of_user())),
    json.dumps(json.dumps([json.dumps({"batch": [of_user("ann"), of_user()]})])),
    json.dumps({"payload": of_user()}),
    json.dumps({**of_user(None), "userId": USER}),
    json.dumps({**of_user(), "price": "a text"}),
    json.dumps(of_user())[:-1],
    json.dumps({"payload": of_user()})[:-3],
    '{"user_id": "\\u0075ser-77", "pr',
]
UNSURE = [
    json.dumps({"message": "the order of user-77 failed"}),
    json.dumps({**of_user(OTHER), "price": "a text", "friend": USER}),
]
OTHERS = [json.dumps([of_user("user-770")]), '{"user_id": "user-77-b"', json.dumps({"quantity": 77})]


def encode(texts: list[str]) -> list[bytes]:
    return [text.encode() for text in texts]


@pytest.fixture(scope="module")
def written(spark: Any, kafka: KafkaResource, tmp_path_factory: pytest.TempPathFactory) -> StreamsUnderTest:
    """The user's records of all kinds, and what another has bought, once under a name that mentions the user."""
    root = tmp_path_factory.mktemp("raw-records")
    ensure_topic(kafka, f"forget-{root.name}", 1)
    settings = Settings(home=root / "home", kafka_bootstrap_servers="", publish=False)
    lakehouse = LakehouseResource(root=str(root / "lakehouse"))
    found = StreamsUnderTest.build(spark, kafka, lakehouse, settings, f"forget-{root.name}")
    events = [build(user, minute, "purchase") for minute in (0, 1, 120) for user in (USER, OTHER)]
    mention = build(OTHER, 2, "purchase", product_name="a gift for user-77", unknown={"by": USER})
    found.send([*events, mention, *encode([*REFUSED, *UNSURE, *OTHERS])], key=None)
    found.drain(*NAMES)
    found.let_go_of_state()
    return found


@pytest.fixture
def streams(written: StreamsUnderTest, tmp_path: Path) -> StreamsUnderTest:
    """The same in a lakehouse of one's own. The topic is that of all tests here, who each forget another user."""
    return written.copy_to(tmp_path / "copy")


def test_all_that_is_the_users_goes_and_the_rest_is_for_a_person(streams: StreamsUnderTest) -> None:
    before = audit(streams)
    assert before.breaches == () and before.totals["quarantined"] == len(REFUSED + UNSURE + OTHERS)
    traces, rows = forget(streams, USER)
    assert (rows["silver.events"], rows["silver.quarantined_events"]) == (3, len(REFUSED))
    assert Counter(record.table for record in traces.unsure) == {
        "silver.events": 1, "silver.quarantined_events": len(UNSURE),
    }  # fmt: skip
    assert audit(streams).breaches == () and prove(streams, USER).found

    # One of them a person has looked at; then all.
    chosen = traces.unsure[0].place
    assert forget(streams, USER, also=AlsoErased(places=frozenset([chosen])))[0].unsure == traces.unsure[1:]
    traces, rows = forget(streams, USER, also=AlsoErased(everything=True))
    assert traces.unsure == () and rows["silver.quarantined_events"] == len(UNSURE)
    assert prove(streams, USER).found == ()
    kept = streams.rows("silver.quarantined_events")
    assert Counter(row["value"] for row in kept) == Counter(encode(OTHERS))
    prove_sound(streams)
    counts = [row["event_count"] for row in streams.rows("gold.sessions") if row["user_id"] == OTHER]
    assert max(counts) == 2, "the event that mentioned the user is gone, and the session computed again"

    streams.send([*encode([*REFUSED, *UNSURE, *OTHERS]), build(USER, 130, "purchase")], key=None)
    streams.drain(*NAMES)
    assert prove(streams, USER).found == ()
    after = audit(streams)
    assert after.breaches == () and after.totals["erased"] == len(REFUSED + UNSURE) + 1
    arrived = [row for row in streams.rows("platform.erased_records") if row["was"].endswith("on_arrival")]
    assert Counter(row["was"] for row in arrived) == {"on_arrival": len(REFUSED) + 1, "unsure_on_arrival": len(UNSURE)}
    newest = max(row["kafka_offset"] for row in arrived if row["was"] == "unsure_on_arrival")
    read = [STREAMS[name] for name in NAMES]
    asked = f"{streams.topic}/0/{newest}"
    said = explain(read, lakehouse_of(streams), streams.kafka, offset=asked)
    assert "may have been of a user who is forgotten: erased on its arrival" in said[0]


def test_a_short_number_takes_nobody_else_along(streams: StreamsUnderTest) -> None:
    streams.send(encode([json.dumps([of_user(7)]), '{"user_id": "7", "quan', json.dumps({"quantity": 7})]), key=None)
    streams.send([build("7", 3, "page_view"), build(OTHER, 3, "page_view", product_id="7", quantity=7)], key=None)
    streams.drain(*NAMES)
    before = len(streams.rows("silver.quarantined_events"))
    traces, rows = forget(streams, "7")
    assert (rows["silver.events"], rows["silver.quarantined_events"], traces.unsure) == (1, 2, ())
    assert len(streams.rows("silver.quarantined_events")) == before - 2
    assert prove(streams, "7").found == ()
    prove_sound(streams)
    streams.send(encode([json.dumps({"id": "x", "uid": 7}), '{"quantity": 7, "user_id": "8']), key=None)
    streams.drain("events")
    assert audit(streams).totals["erased"] == 1


@pytest.mark.release
@pytest.mark.timeout(1800)  # five commands, of which three start Spark twice
def test_the_command_comes_to_its_end(broker: BrokerState, kafka: KafkaResource, topic: Any, tmp_path: Path) -> None:
    """The first run erases all that it finds, the next what came since, the last what a person had to look at."""
    name, producer = topic(1), kafka.producer()

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        own = {"HEADRACE_HOME": str(tmp_path / "home"), "HEADRACE_TOPIC": name}
        environment = {**os.environ, **own, "KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers, **ENVIRONMENT}
        return subprocess.run(
            [sys.executable, "-m", "jobs.cli", *command],
            cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def send(texts: list[str]) -> None:
        for text in [*texts, json.dumps(of_user("ann"))]:
            producer.produce(name, text)
        assert producer.flush(30) == 0
        drained = run("drain")
        assert drained.returncode == 0, drained.stderr

    def forget_user(*options: str) -> tuple[int, str]:
        done = run("forget-user", USER, "--reason", "asked to", *options)
        return done.returncode, done.stdout + done.stderr

    send([json.dumps(of_user()), *REFUSED, *UNSURE, *OTHERS])
    page = tmp_path / "home" / "lakehouse" / ALERTS_PAGE
    page.parent.mkdir()
    page.write_text("the user's payments")
    code, said = forget_user()
    assert not page.exists()
    assert code == 1 and said.count(f"  unsure: silver.quarantined_events {name}/0/") == len(UNSURE), said
    code, said = forget_user("--also-unsure")
    assert code == 0 and "were read; 0 have the user" in said, said
    send([json.dumps(of_user()), *REFUSED, *UNSURE])
    code, said = forget_user()
    assert code == 0, said
