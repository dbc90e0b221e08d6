"""Two topics that are not the shop's, one of nested JSON and one of packed lines, from Kafka into tables, in one group.

What comes out is compared with what plain Python makes of the same values.
"""

from __future__ import annotations

import dataclasses
import json
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from jobs.operations.explain import explain
from jobs.operations.replay.row_replay import ReplayScope
from jobs.operations.replay.unknown_fields import UnknownFieldsReplay
from jobs.supervision.stream_context import build_stream_context
from platform_assets.checks.ledger import audit_stream
from platform_assets.checks.schema_contract import find_contract_breaches
from platform_assets.streaming.engine.query_group import QueryGroup
from platform_assets.streaming.repair.requeue import RecordFilter, Requeuer
from platform_assets.streaming.result_span import ResultSpan, in_words
from platform_assets.streaming.stream_spec import KafkaStream, TableSource, TableStream
from platform_assets.streaming.topic_spec import Topic
from platform_assets.tables.spec import Column, TableSpec
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests import access_log, orders
from tests.bounded_run import run_to_end
from tests.integration.streams_under_test import StreamsUnderTest

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

NOW = datetime.now(UTC).replace(microsecond=0)
HOUR = timedelta(hours=1)


def _sum_items(rows: DataFrame) -> DataFrame:
    from pyspark.sql import functions as F

    items = rows.select("event_time", F.explode("items").alias("item"))
    window = F.window("event_time", in_words(HOUR)).alias("hour")
    sums = items.groupBy(window, F.col("item.sku").alias("sku")).agg(F.sum("item.price").alias("total"))
    return sums.select(
        F.col("hour.start").alias("window_start"), F.col("hour.end").alias("window_end"), "sku",
        F.col("total").cast("decimal(18,2)").alias("total"),
    )  # fmt: skip


def over(source: TableSpec) -> TableStream:
    """Sums of a nested column's decimals by hour."""
    return TableStream(
        name="item_totals",
        source=TableSource(source, ("event_time", "items"), "event_time", HOUR),
        tables=(
            TableSpec(
                "gold.item_totals", "Totals.", "hour x item", ("window_start", "sku"),
                (
                    Column("window_start", "timestamp", "From"), Column("window_end", "timestamp", "To"),
                    Column("sku", "string", "Item"), Column("total", "decimal(18,2)", "Sum of prices"),
                ),
                statistics_columns=("window_start", "window_end"),
            ),
        ),
        transform=_sum_items,
        write_mode="upsert",
        span=ResultSpan("window_start", "window_end", reach=HOUR, window=(HOUR, HOUR)),
    )  # fmt: skip


def build_orders(count: int) -> list[dict[str, Any]]:
    """Orders of three hours; about one in five repeats the number and the line of another."""
    chance = random.Random(7)
    return [
        {
            "order-number": f"o{chance.randrange(count)}", "line": chance.randrange(2), "customer": chance.randrange(9),
            "at": int((NOW - timedelta(seconds=chance.randrange(3 * 3600))).timestamp() * 1000),
            "state": chance.choice(["open", "paid"]), "total": chance.randrange(1, 10**6) / 100,
            "items": [
                {"sku": chance.choice("abc"), "price": f"{chance.randrange(10**5) / 100:.2f}"}
                for _ in range(chance.randrange(4))
            ],
            "client": {"device": chance.choice(["phone", None]), "app": {"version": chance.randrange(5)}},
            "value": "v", "reason": f"because {n}", "content": n, "sender": "s", "arrived_at": NOW.isoformat(),
            **({"note": {"n": n}} if n % 10 == 0 else {}),
        }
        for n in range(count)
    ]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Written:
    """The two topics as they were read, what was sent, and the streams."""

    streams: StreamsUnderTest
    orders: KafkaStream
    requests: KafkaStream
    sent: list[dict[str, Any]]

    @property
    def accepted(self) -> dict[tuple[str, int], dict[str, Any]]:
        """The first order of each number and line, in the order of the topic."""
        found: dict[tuple[str, int], dict[str, Any]] = {}
        for order in self.sent:
            found.setdefault((order["order-number"], order["line"]), order)
        return found


def line(number: int) -> str:
    at = NOW - timedelta(minutes=number)
    return f'10.0.0.{number} - - [{at:%d/%b/%Y:%H:%M:%S +0000}] "GET /{number} HTTP/1.1" 200 {number * 10}'


@pytest.fixture(scope="module")
def written(spark: SparkSession, kafka: KafkaResource, tmp_path_factory: pytest.TempPathFactory) -> Written:
    root = tmp_path_factory.mktemp("any")
    over_orders, over_requests = (
        KafkaStream(dataclasses.replace(topic, kafka_topic=f"{topic.name}-{root.name}"), 0.0)
        for topic in (orders.TOPIC, dataclasses.replace(access_log.TOPIC, compression="zstd"))
    )
    settings = Settings(home=root / "home", kafka_bootstrap_servers="", topic_partitions=1, max_offsets_per_trigger=70)
    lakehouse = LakehouseResource(root=str(root / "lakehouse"))
    group = (over_orders, over_requests, over(over_orders.main_table))
    context = build_stream_context(settings, kafka, lakehouse, group, close_windows=True)
    found = Written(StreamsUnderTest(spark, kafka, context), over_orders, over_requests, build_orders(200))
    values = [json.dumps(order).encode() for order in found.sent]
    broken = {**found.sent[0], "order-number": "z", "total": "1.005"}
    send(kafka, over_orders, [*values, b"{}", json.dumps(broken).encode()])
    send(kafka, over_requests, [pack(line(n)) for n in range(100)] + [pack("no request"), line(1).encode()])
    run_to_end(QueryGroup(spark, group, context))
    return found


def pack(text: str) -> bytes:
    packed: bytes = pa.compress(text.encode(), codec="zstd", asbytes=True)
    return packed


def send(kafka: KafkaResource, stream: KafkaStream, values: list[bytes]) -> None:
    producer = kafka.producer()
    for value in values:
        producer.produce(stream.topic.kafka_topic, value=value, key=b"k", partition=0)
    assert producer.flush(30) == 0


def test_nested_records_are_rows_of_their_types(written: Written) -> None:
    rows = written.streams.rows("silver.orders")
    expected = {
        (number, number_line): (
            datetime.fromtimestamp(order["at"] / 1000, UTC), str(order["customer"]), Decimal(str(order["total"])),
            [(item["sku"], Decimal(item["price"]), 1) for item in order["items"]],
            order["client"]["device"], order["client"]["app"]["version"], (order["value"], order["reason"], NOW),
            json.dumps({"note": order["note"]}, separators=(",", ":")).replace(':{"n":', ':{"n": ')
            if "note" in order else None,
        )
        for (number, number_line), order in written.accepted.items()
    }  # fmt: skip
    found = {
        (row["number"], row["line"]): (
            row["event_time"], row["customer"], row["total"],
            [(item["sku"], item["price"], item["count"]) for item in row["items"]], row["device"], row["version"],
            (row["value"], row["reason"], row["arrived_at"]), row["unknown_fields"],
        )
        for row in rows
    }  # fmt: skip
    assert len(rows) == len(found)
    assert found == expected
    assert {row["event_id"] for row in rows} == {f'["{number}","{at}"]' for number, at in expected}


def test_a_stream_over_a_nested_column_sums_its_decimals(written: Written) -> None:
    totals: Counter[tuple[int, str]] = Counter()
    for order in written.accepted.values():
        for item in order["items"]:
            totals[order["at"] // 3_600_000, item["sku"]] += Decimal(item["price"])  # type: ignore[assignment]
    rows = written.streams.rows("gold.item_totals")
    found = {(int(row["window_start"].timestamp()) // 3600, row["sku"]): row["total"] for row in rows}
    assert found == dict(totals)


def test_lines_are_rows_and_others_are_quarantined(written: Written) -> None:
    rows = written.streams.rows("silver.requests", "select client, path, status, size, event_time from t")
    assert sorted((row["client"], row["path"], row["size"]) for row in rows) == sorted(
        (f"10.0.0.{n}", f"/{n}", n * 10) for n in range(100)
    )
    assert min(row["event_time"] for row in rows) == NOW - timedelta(minutes=99)
    refused = written.streams.rows("silver.quarantined_requests", "select * from t order by kafka_offset")
    assert [(row["reason"], row["value"]) for row in refused] == [
        ("no_match", pack("no request")), ("not_decompressible", line(1).encode())
    ]  # fmt: skip
    assert refused[1]["detail"].startswith("no zstd value: ")


@pytest.mark.parametrize("name", ["orders", "requests"])
def test_the_ledger_accounts_for_each_offset_of_both_topics(written: Written, name: str) -> None:
    stream: KafkaStream = getattr(written, name)
    lakehouse = LakehouseResource(root=written.streams.context.lakehouse_root)
    audit = audit_stream(stream, lakehouse, written.streams.kafka)
    assert audit.breaches == ()
    sent = len(written.sent) + 2 if name == "orders" else 102
    assert audit.totals["rows_in"] == sent
    for table in stream.tables:
        assert find_contract_breaches(DeltaTable(written.streams.context.table_uri(table.name)), table) == []


def test_a_refused_record_says_why_and_comes_back_by_a_requeue(written: Written, tmp_path: Any) -> None:
    streams = written.streams.copy_to(tmp_path / "requeue")
    refused = streams.rows("silver.quarantined_orders", "select reason, detail from t order by kafka_offset")
    assert [row["reason"] for row in refused] == ["missing_field", "wrong_type"]
    assert refused[1]["detail"] == "total is no decimal(8,2): 1.005"
    topic = dataclasses.replace(written.orders.topic, spellings={"total": lambda text: Decimal("1.01")})
    wider = dataclasses.replace(written.orders, topic=topic)
    requeuer = Requeuer(wider, streams.context)
    planned = requeuer.plan(RecordFilter(frozenset({"wrong_type"})), "me", datetime.now(UTC))
    requeuer.commit(planned)
    (row,) = streams.rows("silver.orders", "select * from t where number = 'z'")
    assert row["total"] == Decimal("1.01") and row["event_id"] == f'["z","{written.sent[0]["line"]}"]'


def test_an_order_is_explained_by_its_fields(written: Written) -> None:
    lakehouse = LakehouseResource(root=written.streams.context.lakehouse_root)
    (first, *_), streams = list(written.accepted), (written.orders, written.requests)
    event_id = json.dumps(list(map(str, first)), separators=(",", ":"))
    said = explain(streams, lakehouse, written.streams.kafka, event_id=event_id)
    assert f"user {written.accepted[first]['customer']}" in said[0] and "accepted into silver.orders" in said[0]
    topic = written.requests.topic.kafka_topic
    (said_of_line,) = explain(streams, lakehouse, written.streams.kafka, offset=f"{topic}/0/100")
    assert "no_match" in said_of_line


class NotedOrder(orders.Order):
    """The contract when `note` has got a column."""

    note: dict[str, int] | None = None


class MisreadOrder(orders.Order):
    """The contract with a column that the values of `note` do not fit."""

    note: int | None = None


def test_a_new_column_is_filled_from_what_was_kept(written: Written, tmp_path: Any) -> None:
    streams = written.streams.copy_to(tmp_path / "fill")
    topic = dataclasses.replace(written.orders.topic, record=NotedOrder, added_fields=("note",))
    misread = dataclasses.replace(topic, record=MisreadOrder)
    before = streams.rows("silver.orders")
    lakehouse = LakehouseResource(root=streams.context.lakehouse_root)
    derived, scope = [over(topic.tables[0])], ReplayScope(unknown_fields=True)

    def open_replay(of: Topic = topic) -> UnknownFieldsReplay:
        return UnknownFieldsReplay(KafkaStream(of, 0.0), streams.context, lakehouse, streams.kafka, derived, scope)

    noted = {key: order["note"] for key, order in written.accepted.items() if "note" in order}
    found = open_replay(misread).compare(streams.session)
    assert found.differences == 0
    assert found.notes == (f"{len(noted)} values of note are not what the contract says: they stay in unknown_fields.",)
    found = open_replay().compare(streams.session)
    assert (found.rows, found.changed, found.added, found.missing) == (len(noted), len(noted), 0, 0)
    assert streams.rows("silver.orders") == before
    open_replay().swap(streams.session)
    rows = streams.rows("silver.orders")
    assert {(row["number"], row["line"]): dict(row["note"]) for row in rows if row["note"]} == noted
    assert {row["unknown_fields"] for row in rows} == {None}
    assert audit_stream(written.orders, lakehouse, streams.kafka).breaches == ()
    assert open_replay().compare(streams.session).differences == 0
