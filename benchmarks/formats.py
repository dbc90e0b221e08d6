"""What a million events cost from Kafka into Delta as JSON, Avro and Protobuf: the same events, and the same rows.

The simulated shop's events are sent as JSON, then once more as Avro and as Protobuf, by schemas of the embedded
registry, into topics of their own. Each is read by the stream `events` with its contract: validated, deduplicated,
accounted. Passes, CPU-seconds and processes are those of `benchmarks.ingest`. What is compared at the end are the
rows: of all formats the same. Next to them stands Spark's own `from_avro` over the same topic (`plain_avro`).
Run: `make bench ARGS=formats` (about ten minutes on two cores).
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.ingest import measure
from benchmarks.own_environment import ROOT, of_checkout
from benchmarks.plain_avro import run_plain_avro
from platform_assets.streaming.formats.frame import frame
from platform_assets.streaming.stream_spec import KafkaStream
from platform_assets.streaming.topic_spec import JsonValues, RegistryValues
from platform_assets.topics.events import TOPIC
from resources.embedded.registry import find_registry
from resources.embedded.servers import running_servers
from resources.kafka import KafkaResource
from resources.kafka_topics import ensure_topic
from resources.lakehouse import LakehouseResource
from resources.range_reader import RangeReader
from resources.registry.schema_registry import SchemaRegistry
from resources.settings import Settings
from resources.spark.session import SparkResource

FORMATS = ("json", "avro", "protobuf")
PLAIN = "plain_avro"
_TEXTS = ("event_id", "event_type", "user_id", "product_id", "product_name", "category", "session_id", "device_type",
          "country", "currency")  # fmt: skip
_REQUIRED = ("event_id", "event_type", "user_id")
_KIND = {"type": "enum", "name": "Kind", "symbols": ["page_view", "add_to_cart", "remove_from_cart", "purchase"]}
Encode = Callable[[Mapping[str, Any]], bytes]


def main() -> None:
    """Fills the topics, measures each format in a process of its own, compares rows, prints medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--format", choices=(*FORMATS, PLAIN), help=argparse.SUPPRESS)
    parser.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.format:
        print(json.dumps(_measure(_settings(args.home), args.format, args.passes, args.home / args.format)))
        return
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as temporary:
        settings = _settings(Path(temporary))
        with running_servers(settings):
            _fill(settings, find_registry(settings), args.events)
            found = {name: _run(name, settings.home, args) for name in (*FORMATS, PLAIN)}
        _require_same_rows(settings.home, args.passes)
    costs = {name: statistics.median(each["cpu"] for each in passes) for name, passes in found.items()}
    for name, cost in costs.items():
        of_others = f"{cost / costs['json']:.2f} of JSON, {cost / costs[PLAIN]:.2f} of {PLAIN}"
        print(f"{name:10} {cost * 1e6 / args.events:6.2f} CPU-s per million, {of_others} (medians)")


def _settings(home: Path) -> Settings:
    return Settings(home=home, kafka_bootstrap_servers="", schema_registry_url="embedded", spark_heap_mib=1024)


def _fill(settings: Settings, registry: SchemaRegistry, events: int) -> None:
    options = ["--count", str(events), "--rate", "max", "--seed", "1", "--quiet", "--topic", "json"]
    clean = ["--late", "0", "--duplicates", "0", "--malformed", "0", "--habit", "unknown_fields=0"]
    environment = {**os.environ, "HEADRACE_HOME": str(settings.home)}
    subprocess.run([sys.executable, "-m", "jobs.cli", "simulate", *options, *clean], check=True, env=environment)
    encoders = {"avro": _write_avro(registry), "protobuf": _write_protobuf(registry)}
    with KafkaResource.from_settings(settings) as kafka:
        producer = kafka.producer()
        for name in encoders:
            ensure_topic(kafka, name, settings.topic_partitions)
        for partition, value in _read(kafka):
            event = json.loads(value)
            for name, encode in encoders.items():
                producer.produce(name, value=encode(event), key=event["user_id"], partition=partition)
            producer.poll(0)
        producer.flush()


def _read(kafka: KafkaResource) -> Iterator[tuple[int, bytes]]:
    ranges = [(partition, 0, end) for partition, end in kafka.end_offsets("json").items()]
    for batch in RangeReader(kafka.client_config())("json", ranges):
        yield from zip(batch.column("partition").to_pylist(), batch.column("value").to_pylist(), strict=True)


def _write_avro(registry: SchemaRegistry) -> Encode:
    import fastavro

    schema = build_avro_schema()
    schema_id, parsed = registry.register("avro-value", "avro", json.dumps(schema)), fastavro.parse_schema(schema)

    def encode(event: Mapping[str, Any]) -> bytes:
        out = io.BytesIO()
        fastavro.schemaless_writer(out, parsed, {**event, "timestamp": datetime.fromisoformat(event["timestamp"])})
        return frame(schema_id, out.getvalue())

    return encode


def build_avro_schema() -> dict[str, Any]:
    """The events as an Avro record."""
    fields: list[dict[str, Any]] = [
        {"name": name, "type": _KIND if name == "event_type" else "string" if name in _REQUIRED else ["null", "string"]}
        for name in _TEXTS
    ]
    fields.append({"name": "timestamp", "type": {"type": "long", "logicalType": "timestamp-micros"}})
    fields += [{"name": name, "type": ["null", "double"]} for name in ("price", "revenue")]
    fields.append({"name": "quantity", "type": ["null", "int"]})
    return {"type": "record", "name": "Event", "fields": fields}


def _write_protobuf(registry: SchemaRegistry) -> Encode:
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2

    fields = [("" if name in _REQUIRED else "optional", "string", name) for name in _TEXTS]
    fields += [("", "google.protobuf.Timestamp", "timestamp"), ("optional", "int32", "quantity")]
    fields += [("optional", "double", name) for name in ("price", "revenue")]
    imported = "google/protobuf/timestamp.proto"
    lines = [f"{label} {of} {name} = {number};" for number, (label, of, name) in enumerate(fields, 1)]
    text = f'syntax = "proto3";\nimport "{imported}";\nmessage Event {{ {" ".join(lines)} }}\n'
    schema_id = registry.register("protobuf-value", "protobuf", text)
    file = descriptor_pb2.FileDescriptorProto(name="e.proto", syntax="proto3", dependency=[imported])
    message = file.message_type.add(name="Event")
    for number, (label, of, name) in enumerate(fields, 1):
        kind = {"string": 9, "double": 1, "int32": 5}.get(of, 11)
        field = message.field.add(
            name=name, number=number, label=1, type=kind, type_name=f".{of}" if kind == 11 else None
        )
        if label == "optional":
            field.proto3_optional, field.oneof_index = True, len(message.oneof_decl)
            message.oneof_decl.add(name=f"_{name}")
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    event_class = message_factory.GetMessageClass(pool.FindMessageTypeByName("Event"))

    def encode(event: Mapping[str, Any]) -> bytes:
        found = event_class(
            **{name: value for name, value in event.items() if value is not None and name != "timestamp"}
        )
        found.timestamp.FromDatetime(datetime.fromisoformat(event["timestamp"]))
        return frame(schema_id, b"\0" + found.SerializeToString())

    return encode


def _run(name: str, home: Path, args: argparse.Namespace) -> list[dict[str, float]]:
    command = [sys.executable, "-m", "benchmarks.formats", "--format", name, "--home", str(home)]
    command += ["--events", str(args.events), "--passes", str(args.passes)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=of_checkout(ROOT),
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    passes: list[dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    print(name, *(f"{each['cpu'] * 1e6 / args.events:.2f}" for each in passes), "CPU-s per million events", flush=True)
    return passes


def _measure(settings: Settings, name: str, passes: int, folder: Path) -> list[dict[str, float]]:
    if name == PLAIN:
        return run_plain_avro(settings, "avro", build_avro_schema(), passes, folder)
    from jobs.supervision.stream_context import build_stream_context
    from platform_assets.streaming.engine.query_group import QueryGroup
    from tests.bounded_run import run_to_end

    values = JsonValues() if name == "json" else RegistryValues()
    streams = [KafkaStream(dataclasses.replace(TOPIC, kafka_topic=name, values=values), 0.0)]

    def run(target: Path) -> None:
        with KafkaResource.from_settings(settings) as kafka:
            context = build_stream_context(settings, kafka, LakehouseResource(root=str(target)), streams)
        run_to_end(QueryGroup(session, streams, context))

    with SparkResource.from_settings(settings, "benchmark").running() as session:
        return measure(passes, run, folder)


def _require_same_rows(home: Path, passes: int) -> None:
    """Ends with an error where the formats have given other rows."""
    import duckdb
    from deltalake import DeltaTable

    columns = [
        each.name for each in TOPIC.tables[0].columns if each.name not in ("topic", "kafka_timestamp", "ingested_at")
    ]
    digests: dict[str, tuple[Any, ...]] = {}
    for name in FORMATS:
        with duckdb.connect() as connection:
            table = DeltaTable(str(home / name / str(passes) / "silver" / "events"))
            connection.register("events", table.to_pyarrow_dataset())
            hashes = ", ".join(f"bit_xor(hash(kafka_partition, kafka_offset, {column}))" for column in columns)
            query = f"SELECT count(*), {hashes} FROM events"
            digests[name] = connection.sql(query).fetchall()[0]
    other = [name for name, *found in zip(("rows", *columns), *digests.values(), strict=True) if len(set(found)) > 1]
    if other:
        sys.exit(f"FAILED: the formats have given other rows: they differ in {', '.join(other)}.")
    print(f"the same {digests['json'][0]:,} rows from each format")


if __name__ == "__main__":
    main()
