"""What a million events cost from Kafka into Delta: the stream `events`, the field's plain script, and one by hand.

All read the same topic of clean events with two cores, in processes of their own, one after the other; each makes one
warm-up pass and then the measured ones, every pass into a new table with a new checkpoint. CPU-seconds are those of
the driver, the JVM and the Python workers together; the broker's are not counted. Ours deduplicates, validates and
accounts; the others do not. Run: `make bench ARGS=ingest` (about ten minutes on two cores).

    make bench ARGS="ingest --before ../headrace-before"     an earlier checkout next to this one
    make bench ARGS="ingest --slots 1 2"                     ours alone, with one task slot and with two

The earlier checkout must be set up (`make setup`). Both run this file, each with its own platform.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.spark_usage import spark_cpu_seconds
from resources.embedded.broker import EmbeddedBroker
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

TOPIC = "ingest"
SCHEMA = (
    "event_id string, event_type string, timestamp timestamp, user_id string, product_id string, product_name string, "
    "category string, price double, quantity int, session_id string, device_type string, country string, revenue double"
)
# As many as ours has in a batch.
_ROWS_OF_A_COMMIT = 200_000


def measure(passes: int, run: Callable[[Path], None], folder: Path) -> list[dict[str, float]]:
    """Wall and CPU time of each pass after a warm-up pass."""
    found = []
    for number in range(passes + 1):
        wall, cpu = time.monotonic(), spark_cpu_seconds()
        run(folder / str(number))
        found.append({"wall": time.monotonic() - wall, "cpu": spark_cpu_seconds() - cpu})
    return found[1:]


def run_plain(settings: Settings, passes: int, folder: Path) -> list[dict[str, float]]:
    """The script of tutorials: readStream, from_json, writeStream, with Spark's and Delta's defaults."""
    from pyspark.sql import SparkSession
    from pyspark.sql import functions as F

    from resources.jars import spark_jars

    session = (
        SparkSession.builder.master("local[2]").config("spark.driver.memory", "2g")
        .config("spark.jars", ",".join(map(str, spark_jars())))
        .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
        .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
        .config("spark.ui.enabled", "false").config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1").getOrCreate()
    )  # fmt: skip

    def run(target: Path) -> None:
        records = session.readStream.format("kafka").option("subscribe", TOPIC).option("startingOffsets", "earliest")
        records = records.option("kafka.bootstrap.servers", settings.kafka_bootstrap_servers)
        parsed = records.load().select(
            F.from_json(F.col("value").cast("string"), SCHEMA).alias("e"), "topic", "partition", "offset"
        )
        rows = parsed.select("e.*", "topic", "partition", "offset")
        query = rows.writeStream.format("delta").option("checkpointLocation", f"{target}/checkpoint")
        query.trigger(availableNow=True).start(f"{target}/table").awaitTermination()

    return measure(passes, run, folder)


def run_by_hand(settings: Settings, passes: int, folder: Path) -> list[dict[str, float]]:
    """What somebody writes who wants it fast: one process, librdkafka, polars, delta-rs; no check and no account."""
    import polars as pl
    from confluent_kafka import Consumer, TopicPartition
    from deltalake import write_deltalake

    types = {"string": pl.String, "double": pl.Float64, "int": pl.Int64, "timestamp": pl.String}
    schema = {name: types[of] for name, of in (column.split(" ") for column in SCHEMA.split(", "))}

    def run(target: Path) -> None:
        consumer = Consumer(
            {"bootstrap.servers": settings.kafka_bootstrap_servers, "group.id": "by-hand", "enable.auto.commit": False}
        )
        found = consumer.list_topics(TOPIC, timeout=10).topics[TOPIC].partitions
        left = {p: consumer.get_watermark_offsets(TopicPartition(TOPIC, p))[1] for p in found}
        consumer.assign([TopicPartition(TOPIC, p, 0) for p in left])
        rows: list[pl.DataFrame] = []
        while left:
            messages = [m for m in consumer.consume(5000, 0.5) if m.error() is None]
            if messages:
                rows.append(_read_by_hand(messages, schema))
                last = {m.partition(): m.offset() for m in messages}
                left = {p: end for p, end in left.items() if (last.get(p) or 0) + 1 < end}
            if rows and (not left or sum(map(len, rows)) >= _ROWS_OF_A_COMMIT):
                write_deltalake(target / "table", pl.concat(rows).to_arrow(), mode="append")
                rows = []
        consumer.close()

    return measure(passes, run, folder)


def _read_by_hand(messages: list[Any], schema: dict[str, Any]) -> Any:
    import polars as pl

    text = b"\n".join(message.value() for message in messages)
    rows = pl.read_ndjson(text, schema=schema).with_columns(pl.col("timestamp").str.to_datetime(time_zone="UTC"))
    return rows.with_columns(
        topic=pl.lit(TOPIC), partition=pl.Series([message.partition() for message in messages]),
        offset=pl.Series([message.offset() for message in messages]),
    )  # fmt: skip


def run_headrace(settings: Settings, passes: int, folder: Path) -> list[dict[str, float]]:
    """The platform's stream, as `make drain` runs it: validated, quarantined, with its ledger; of any checkout."""
    from platform_assets.streams import load_streams
    from resources.spark.session import SparkResource

    build_stream_context = _load("jobs.supervision.stream_context", "jobs.stream_context").build_stream_context
    streaming = "platform_assets.streaming"
    group_class = _load(f"{streaming}.engine.query_group", f"{streaming}.query_group").QueryGroup
    events = [stream for stream in load_streams() if stream.name == "events"]

    def run_once(session: SparkSession, target: Path) -> None:
        lakehouse = LakehouseResource(root=str(target))
        with KafkaResource.from_settings(settings) as kafka:
            context = build_stream_context(settings, kafka, lakehouse, events)
        group = group_class(session, events, context)
        group.start(bounded=True)
        while not group.is_finished():
            if (failure := group.failure()) is not None:
                raise failure
            time.sleep(0.05)
        group.stop(30)

    with SparkResource.from_settings(settings, "benchmark").running() as session:
        return measure(passes, lambda target: run_once(session, target), folder)


def _load(name: str, former: str) -> Any:
    """A module of this checkout or of an earlier one, which has it under its former name."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return importlib.import_module(former)


def main() -> None:
    """Prepares the topic, runs both contenders in processes of their own, prints medians and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--before", type=Path, help="an earlier checkout, measured instead of the plain script")
    parser.add_argument("--slots", type=int, nargs="+", help="ours alone, with each of these numbers of task slots")
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    parser.add_argument("--servers", help=argparse.SUPPRESS)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as temporary:
        folder = Path(temporary)
        if args.contender:
            settings = Settings(
                home=folder / "home", kafka_bootstrap_servers=args.servers, topic=TOPIC,
                deduplication=True, spark_heap_mib=2048,
            )  # fmt: skip
            name, _, slots = args.contender.partition(" ")
            if slots:
                settings = settings.model_copy(update={"spark_master": f"local[{slots}]"})
            contender = {"plain": run_plain, "by_hand": run_by_hand}.get(name, run_headrace)
            print(json.dumps(contender(settings, args.passes, folder / "tables")))
            return
        broker = EmbeddedBroker(folder / "home")
        servers = broker.start().bootstrap_servers
        try:
            _fill_topic(folder / "home", args.events)
            names: tuple[str, ...] = ("before", "headrace") if args.before else ("plain", "by_hand", "headrace")
            if args.slots:
                names = tuple(f"headrace {slots}" for slots in args.slots)
            results = {name: _run_contender(name, servers, args) for name in names}
        finally:
            broker.stop()
    _report(results, args.events)


def _fill_topic(home: Path, events: int) -> None:
    options = ["--count", str(events), "--rate", "max", "--seed", "1", "--quiet", "--topic", TOPIC]
    clean = ["--late", "0", "--duplicates", "0", "--malformed", "0", "--habit", "unknown_fields=0"]
    environment = {**os.environ, "HEADRACE_HOME": str(home)}
    subprocess.run([sys.executable, "-m", "jobs.cli", "simulate", *options, *clean], check=True, env=environment)


def _run_contender(name: str, servers: str, args: argparse.Namespace) -> list[dict[str, float]]:
    # Not above: the earlier checkout runs this file too, with benchmarks of its own.
    from benchmarks.own_environment import ROOT, of_checkout

    command = ["--contender", name, "--servers", servers, "--events", str(args.events), "--passes", str(args.passes)]
    command += ["--before", str(args.before)] if args.before else []
    root, python = (args.before.absolute(), ".venv/bin/python") if name == "before" else (ROOT, sys.executable)
    done = subprocess.run(
        [root / python, __file__, *command], cwd=root, env=of_checkout(root), check=True,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    passes: list[dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    print(name, *(f"{p['cpu'] * 1e6 / args.events:.2f}" for p in passes), "CPU-s per million events", flush=True)
    return passes


def _report(results: dict[str, list[dict[str, float]]], events: int) -> None:
    costs = {}
    for name, passes in results.items():
        costs[name] = statistics.median(p["cpu"] for p in passes) * 1e6 / events
        rate = events / statistics.median(p["wall"] for p in passes)
        print(f"{name:10} {costs[name]:6.2f} CPU-s per million events, {rate:10,.0f} events/s (medians)")
    for other in costs.keys() - {"headrace"} if "headrace" in costs else ():
        print(f"ratio headrace / {other}: {costs['headrace'] / costs[other]:.3f}")


if __name__ == "__main__":
    main()
