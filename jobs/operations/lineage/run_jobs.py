"""What a run of Dagster does, as OpenLineage's jobs: one for each query of a stream group, one for each asset.

A job has its own inputs and outputs. Of one job a run, each report's table would seem to come from the inputs of all.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import dagster as dg

from jobs.operations.lineage.column_lineage import find_sources
from jobs.operations.lineage.datasets import NamedDataset, describe_table, name_table, name_topic
from jobs.supervision.lease import HostReport
from platform_assets.relays import load_relays
from platform_assets.streaming.stream_spec import KafkaStream, Stream, StreamGroup, name_topics
from platform_assets.tables.spec import Column

if TYPE_CHECKING:
    from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

    from platform_assets.streaming.relay_spec import RelayStream


@dataclass(frozen=True)
class Places:
    """The places where the platform's datasets lie. `servers` are Kafka's; `shop_topic` as in `name_topics`."""

    servers: str
    lakehouse_root: str
    shop_topic: str


@dataclass(frozen=True)
class RunJob:
    """A job of a run: its name, and what it reads and writes. `rows` and `size` (bytes): read of the first input.

    `is_done`: it has come to its end, whatever becomes of the run.
    """

    name: str
    run_id: str
    parent_run_id: str
    parent_name: str
    is_streaming: bool
    inputs: tuple[NamedDataset, ...]
    outputs: tuple[NamedDataset, ...]
    rows: int | None = None
    size: int | None = None
    is_done: bool = False


def list_query_jobs(run: dg.DagsterRun, group: StreamGroup, places: Places, report: HostReport | None) -> list[RunJob]:
    """The queries of a streaming run. `report` is the host's last one; one of another run says nothing of this one."""
    progress = report.queries if report is not None and report.heartbeat.run_id == run.run_id else {}
    topics = name_topics(group.streams, places.shop_topic)
    found = [(s.name, *_ends_of(s, topics, places, progress.get(s.name, {}))) for s in group.streams]
    found += [(relay.name, *_ends_of_relay(relay, places)) for relay in load_relays(group.relays)]
    jobs = []
    for name, read, written in found:
        known = progress.get(name, {})
        job = RunJob(
            f"{group.name}.{name}", _name_run(run, name), run.run_id, run.job_name, True, (read,), written,
            rows=known.get("rows_in"), size=known.get("bytes_in") or None,
        )  # fmt: skip
        jobs.append(job)
    return jobs


def _ends_of(
    stream: Stream, topics: Mapping[str, str], places: Places, progress: Mapping[str, Any]
) -> tuple[NamedDataset, tuple[NamedDataset, ...]]:
    """What a stream reads, and what it writes: its tables, and its published topic."""
    versions = progress.get("table_versions", {})
    outputs = [describe_table(places.lakehouse_root, t, version=versions.get(t.name)) for t in stream.tables]
    if isinstance(stream, KafkaStream):
        return name_topic(places.servers, topics[stream.name]), tuple(outputs)
    read = describe_table(places.lakehouse_root, stream.source.table)
    outputs[0] = replace(outputs[0], source=read, sources=find_sources(stream))
    if stream.publish_topic:
        outputs.append(name_topic(places.servers, stream.publish_topic))
    return read, tuple(outputs)


def _ends_of_relay(relay: RelayStream, places: Places) -> tuple[NamedDataset, tuple[NamedDataset, ...]]:
    assert relay.source.kafka_topic is not None
    written = [name_topic(places.servers, topic) for topic in relay.outputs]
    tables = [describe_table(places.lakehouse_root, table) for table in relay.tables]
    return name_topic(places.servers, relay.source.kafka_topic), (*written, *tables)


def list_asset_jobs(
    run: dg.DagsterRun, instance: dg.DagsterInstance, graph: AssetGraph, places: Places
) -> list[RunJob]:
    """The assets that a run computes, or was to compute. Assets that are neither a table nor a topic are no datasets.

    Raises what the instance's storage raises.
    """
    planned, done = dict[dg.AssetKey, None](), dict[dg.AssetKey, int | None]()
    for kind in (dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED, dg.DagsterEventType.ASSET_MATERIALIZATION):
        for record in instance.get_records_for_run(run.run_id, of_type=kind).records:
            event = record.event_log_entry.dagster_event
            if event is None or event.asset_key is None or not graph.has(event.asset_key):
                continue
            planned[event.asset_key] = None
            if kind is dg.DagsterEventType.ASSET_MATERIALIZATION:
                version = event.step_materialization_data.materialization.metadata.get("delta/version")
                done[event.asset_key] = version.value if isinstance(version, dg.IntMetadataValue) else None
    jobs = []
    for key in planned:
        written = _name_asset(key, graph, places)
        if written is None:
            continue
        read = (_name_asset(parent, graph, places) for parent in sorted(graph.get(key).parent_keys))
        name = ".".join(key.path)
        job = RunJob(
            name, _name_run(run, name), run.run_id, run.job_name, False,
            tuple(found for found in read if found is not None), (replace(written, version=done.get(key)),),
            is_done=key in done,
        )  # fmt: skip
        jobs.append(job)
    return jobs


def _name_asset(key: dg.AssetKey, graph: AssetGraph, places: Places) -> NamedDataset | None:
    """The dataset of a table's or a topic's asset; None for another one."""
    if not graph.has(key):
        return None
    metadata, text = graph.get(key).metadata, graph.get(key).description or ""
    if (topic := metadata.get("kafka/topic")) is not None:
        return name_topic(places.servers, _text(topic))
    if (table := metadata.get("dagster/table_name")) is None:
        return None
    schema = metadata.get("dagster/column_schema")
    columns: Sequence[Column] = ()
    if schema is not None:
        shown = schema.value if isinstance(schema, dg.MetadataValue) else schema
        columns = [Column(column.name, column.type, column.description or "") for column in shown.columns]
    return replace(name_table(places.lakehouse_root, _text(table)), description=text, columns=columns)


def _text(value: Any) -> str:
    return str(value.value if isinstance(value, dg.MetadataValue) else value)


def _name_run(run: dg.DagsterRun, name: str) -> str:
    """The id is the same for each event about this job of this run."""
    return str(uuid.uuid5(uuid.UUID(run.run_id), name))
