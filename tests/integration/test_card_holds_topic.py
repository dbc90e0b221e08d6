"""The topic of card holds: a card's last record is its state, whatever comes late, twice or at the same time."""

from __future__ import annotations

import json
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import pyarrow as pa
import pytest
from click.testing import CliRunner
from deltalake import write_deltalake
from hypothesis import given
from hypothesis import strategies as st

from jobs.cli.card_commands import card as card_command
from jobs.definitions.release_card import build_release_job
from jobs.operations import card_holds as operation
from jobs.operations.card_holds import release_card
from jobs.operations.forgetting.command import Erasure
from jobs.supervision.publish_target import Registrar
from jobs.supervision.stream_context import build_stream_context
from platform_assets.errors import UsageError
from platform_assets.fraud.held_cards import list_held
from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table
from platform_assets.streaming.derive.kafka_publisher import KafkaPublisher
from platform_assets.streaming.formats.frame import HEADER_BYTES, find_schema_id
from platform_assets.streaming.formats.readers import compile_schema
from platform_assets.streaming.formats.registered_schema import SchemaTarget
from platform_assets.streaming.stream_spec import KafkaStream
from platform_assets.streams.card_holds import CARD_HOLDS, HOLDS_TOPIC, STREAM
from platform_assets.tables.fraud import CARD_RELEASES
from platform_assets.tables.platform import PLATFORM_TABLES
from platform_assets.topics.fraud_scores import TOPIC as FRAUD_SCORES
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource
from resources.registry.schema_registry import SchemaRegistry
from resources.settings import load_settings
from tests.generated_cases import examples
from tests.integration.test_simulator import read_all

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from platform_assets.streaming.context import StreamContext
    from resources.embedded.broker import BrokerState
    from resources.settings import Settings

SCORES = KafkaStream(FRAUD_SCORES)


@dataclass
class Holds:
    """A lakehouse of holds with the real topic; its cards are named for it alone."""

    session: SparkSession
    kafka: KafkaResource
    lakehouse: LakehouseResource
    context: StreamContext
    publisher: KafkaPublisher
    own: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    count: int = 0

    def name(self, card: str) -> str:
        return f"{self.own}-é-{card}"

    def hold(self, card: str, at: datetime, customer: str = "ann") -> pa.Table:
        """A hold in its table, as the stream writes it; gives the batch."""
        self.count += 1
        row = {
            "score_id": f"{self.own}-{self.count}", "card_id": self.name(card), "customer_id": customer,
            "event_time": at, "as_of": at, "state": "held", "model_version": 1, "reasons": ["a reason"],
            "score": float("nan") if self.count % 5 == 4 else 0.95,
        }  # fmt: skip
        rows = pa.Table.from_pylist([row], build_arrow_schema(CARD_HOLDS))
        write_deltalake(create_table(self.lakehouse.table_uri(CARD_HOLDS.name), CARD_HOLDS), rows, mode="append")
        return rows

    def publish(self, rows: pa.Table, removed: bool = False) -> None:
        self.publisher.publish(self.session, rows, "0", 1, removed)

    def release(self, card: str) -> None:
        release_card(self.lakehouse, self.kafka, self.name(card), "a test", "it was the customer")

    def read(self) -> dict[str, Any]:
        """What a gateway that has read the whole topic knows: the last record of each card, None for a tombstone."""
        last: dict[str, Any] = {}
        places: dict[str, set[int]] = {}
        for partition, key, value in read_all(self.kafka, HOLDS_TOPIC):
            name = json.loads(key)["card_id"]
            if name.startswith(self.own):
                assert key == json.dumps({"card_id": name}, separators=(",", ":"), ensure_ascii=False).encode()
                last[name.removeprefix(self.name(""))] = None if value is None else json.loads(value)
                places.setdefault(name, set()).add(partition)
        assert all(len(found) == 1 for found in places.values())
        return last

    def states(self) -> dict[str, str | None]:
        return {name: value and value["state"] for name, value in self.read().items()}


@contextmanager
def opened(spark: SparkSession, kafka: KafkaResource, settings: Settings) -> Iterator[Holds]:
    with tempfile.TemporaryDirectory() as folder:
        lakehouse = LakehouseResource(root=folder)
        context = build_stream_context(settings, kafka, lakehouse, [SCORES, STREAM])
        assert len(kafka.partitions(HOLDS_TOPIC)) > 1
        yield Holds(spark, kafka, lakehouse, context, KafkaPublisher(STREAM, context))


@pytest.fixture
def holds(spark: SparkSession, kafka: KafkaResource, settings: Settings) -> Iterator[Holds]:
    with opened(spark, kafka, settings) as found:
        yield found


def test_a_release_that_the_topic_did_not_get_is_told_by_the_same_command(holds: Holds) -> None:
    holds.publish(holds.hold("a", datetime.now(UTC)))
    # As a release leaves it whose broker went away after the table was written.
    row = {
        "card_id": holds.name("a"), "as_of": datetime.now(UTC), "state": "released", "by": "a test",
        "reason": "a reason", "customer_id": "ann",
    }  # fmt: skip
    table = create_table(holds.lakehouse.table_uri(CARD_RELEASES.name), CARD_RELEASES)
    write_deltalake(table, pa.Table.from_pylist([row], build_arrow_schema(CARD_RELEASES)), mode="append")
    assert holds.states() == {"a": "held"}
    holds.release("a")
    assert holds.states() == {"a": "released"}
    assert len(holds.lakehouse.delta_table(CARD_RELEASES.name).to_pyarrow_table()) == 1


# A hold that comes at once, one that comes late, any batch once more, and a release.
EVENTS = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from(["now", "late", "again", "release"]), st.integers(0, 5)),
    min_size=4, max_size=9,
)  # fmt: skip


@pytest.mark.timeout(300)
@examples(4)
@given(events=EVENTS)
def test_the_topic_says_what_the_tables_say(
    spark: SparkSession, kafka: KafkaResource, settings: Settings, events: list[tuple[str, str, int]]
) -> None:
    with opened(spark, kafka, settings) as holds:
        batches, moments, held = [holds.hold("c", datetime.now(UTC))], [datetime.now(UTC)], {"c"}
        last_release: dict[str, datetime] = {}
        holds.publish(batches[0])
        for card, what, choice in events:
            if what == "again":
                holds.publish(batches[choice % len(batches)])
            elif what == "release" and card in held:
                holds.release(card)
                held.discard(card)
                last_release[card] = datetime.now(UTC)
            elif what != "release":
                at = datetime.now(UTC) if what == "now" else moments[choice % len(moments)]
                batches.append(holds.hold(card, at))
                holds.publish(batches[-1])
                if card not in last_release or at > last_release[card]:
                    held.add(card)
            moments.append(datetime.now(UTC))
        told = holds.states()
        assert {name for name, state in told.items() if state == "held"} == held
        assert {each.card_id for each in list_held(holds.lakehouse)} == {holds.name(name) for name in held}
        assert None not in told.values()


def test_a_card_without_holds_has_a_tombstone_and_another_hold_keeps_it_held(holds: Holds) -> None:
    first = holds.hold("a", datetime.now(UTC) - timedelta(minutes=1))
    second = holds.hold("a", datetime.now(UTC))
    holds.publish(pa.concat_tables([second, first]))
    holds.publish(second, removed=True)
    record = holds.read()["a"]
    assert (record["state"], record["score_id"]) == ("held", first["score_id"][0].as_py())
    assert record["as_of"] == first["as_of"][0].as_py().isoformat(timespec="microseconds").replace("+00:00", "Z")
    holds.release("a")
    assert holds.states() == {"a": "released"}
    # As the erasure of a user does it: published before the rows are gone.
    holds.publish(pa.concat_tables([first, second]), removed=True)
    assert holds.read() == {"a": None}


def test_a_release_at_the_moment_of_a_batch_is_the_last_word(holds: Holds, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = holds.hold("a", datetime.now(UTC))
    send = KafkaPublisher._send
    sent: list[bool] = []

    def release_first(*args: Any, **kwargs: Any) -> None:
        # What to send is decided; the release is in its table and in the topic before it is sent.
        if not sent:
            sent.append(True)
            holds.release("a")
        send(*args, **kwargs)

    monkeypatch.setattr(KafkaPublisher, "_send", release_first)
    holds.publish(rows)
    assert sent and holds.states() == {"a": "released"}


def test_an_alert_at_the_moment_of_a_release_is_the_last_word(holds: Holds, monkeypatch: pytest.MonkeyPatch) -> None:
    holds.publish(holds.hold("a", datetime.now(UTC)))
    send = operation._publish

    def hold_first(producer: Any, row: dict[str, Any]) -> None:
        if row["state"] == "released":
            holds.publish(holds.hold("a", datetime.now(UTC)))
        send(producer, row)

    monkeypatch.setattr(operation, "_publish", hold_first)
    holds.release("a")
    assert holds.states() == {"a": "held"}
    assert [each.card_id for each in list_held(holds.lakehouse)] == [holds.name("a")]


def test_a_customer_who_is_forgotten_has_neither_holds_nor_releases(holds: Holds) -> None:
    for card, customer in (("a", "ann"), ("b", "ann"), ("c", "bob")):
        holds.publish(holds.hold(card, datetime.now(UTC), customer))
    holds.release("b")
    holds.release("c")
    for spec in (*FRAUD_SCORES.tables, *PLATFORM_TABLES):
        create_table(holds.lakehouse.table_uri(spec.name), spec)
    erasure = Erasure("ann", [SCORES, STREAM], holds.context, "a test", "asked")
    _, counts = erasure.take_out(holds.session, lambda: None, lambda line: None)
    assert (counts[CARD_HOLDS.name], counts[CARD_RELEASES.name]) == (2, 1)
    for name in (CARD_HOLDS.name, CARD_RELEASES.name):
        assert holds.lakehouse.delta_table(name).to_pyarrow_table()["customer_id"].to_pylist() == ["bob"]
    assert holds.states() == {"a": None, "b": None, "c": "released"}


def test_holds_and_releases_are_values_of_one_schema(holds: Holds, schema_registry: SchemaRegistry) -> None:
    target = SchemaTarget("avro", Registrar(schema_registry, "BACKWARD"))
    context = replace(holds.context, publish_target=target)
    holds = replace(holds, context=context, publisher=KafkaPublisher(STREAM, context))
    held = datetime.now(UTC)
    for card in "ab":
        holds.publish(holds.hold(card, held))
    release_card(holds.lakehouse, holds.kafka, holds.name("a"), "a test", "it was the customer", target)
    found: dict[str, list[dict[str, Any]]] = {}
    for _, key, value in read_all(holds.kafka, HOLDS_TOPIC):
        if (name := json.loads(key)["card_id"]).startswith(holds.own) and value is not None:
            readers = compile_schema(schema_registry(find_schema_id(value) or 0))
            place, payload = readers.split(value[HEADER_BYTES:])
            found.setdefault(name.removeprefix(holds.name("")), []).append(readers.find(place).read(payload))
    assert [row["state"] for row in found["a"]] == ["held", "released"]
    assert [row["state"] for row in found["b"]] == ["held"]
    hold, release = found["a"]
    assert (hold["as_of"], hold["score"], hold["by"]) == (held, 0.95, None)
    assert (release["by"], release["reason"], release["score"]) == ("a test", "it was the customer", None)


def test_a_release_by_a_clock_that_is_behind_releases(holds: Holds) -> None:
    ahead = datetime.now(UTC) + timedelta(hours=1)
    holds.publish(holds.hold("a", ahead))
    holds.release("a")
    assert list_held(holds.lakehouse) == []
    (row,) = holds.lakehouse.delta_table(CARD_RELEASES.name).to_pyarrow_table().to_pylist()
    assert (row["as_of"], row["customer_id"], row["by"]) == (ahead, "ann", "a test")


def test_a_card_is_released_where_nothing_is_published(holds: Holds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operation, "HOLDS_TOPIC", f"missing-{holds.own}")
    holds.hold("a", datetime.now(UTC))
    holds.release("a")
    assert list_held(holds.lakehouse) == []


def test_the_command_and_the_job_release_a_card(
    holds: Holds, broker: BrokerState, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        holds.publish(holds.hold(name, datetime.now(UTC)))
    monkeypatch.setenv("HEADRACE_LAKEHOUSE", holds.lakehouse.root)
    monkeypatch.setenv("HEADRACE_HOME", str(settings.home))
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", broker.bootstrap_servers)
    load_settings.cache_clear()
    try:
        run = CliRunner().invoke
        assert holds.name("a") in run(card_command, ["list"]).output
        done = run(card_command, ["release", holds.name("a"), "--reason", "asked"], catch_exceptions=False)
        assert done.exit_code == 0 and "is released; it was held since" in done.output
        assert isinstance(run(card_command, ["release", holds.name("b"), "--reason", " "]).exception, UsageError)

        def execute(card: str) -> dg.ExecuteInProcessResult:
            config = {"ops": {"release": {"config": {"card_id": holds.name(card), "reason": "asked in the UI"}}}}
            kafka = KafkaResource(bootstrap_servers=broker.bootstrap_servers)
            resources = {"lakehouse": holds.lakehouse, "kafka": kafka}
            return build_release_job().execute_in_process(config, resources=resources, raise_on_error=False)

        assert execute("b").success
        assert execute("b").success, "the topic is told again"
        assert not execute("a card of nobody").success
        assert run(card_command, ["list"]).output == "No card is held.\n"
    finally:
        load_settings.cache_clear()
    assert holds.states() == {"a": "released", "b": "released"}
