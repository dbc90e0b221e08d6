"""The field's plain script for Avro: Spark's `from_avro`, and the events' rules as SQL; no schema registry, no account.

It judges what the stream `events` judges, and writes one table in which a broken record has its reason. It does not
deduplicate, keeps no ledger, and reads one schema, which is known beforehand.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.ingest import measure
from platform_assets.streaming.event_rules import PLACEHOLDER_IDS
from platform_assets.streaming.formats.frame import HEADER_BYTES
from resources.jars import spark_jars
from resources.kafka import KafkaResource
from resources.settings import Settings

_SPARK_AVRO = ("org.apache.spark", "spark-avro_2.13", "4.2.0")
_NO_IDS = ", ".join("'{}'".format(name.lower().replace("\\", "\\\\")) for name in ("", *PLACEHOLDER_IDS))
_RULES = {
    "not_decodable": "e IS NULL",
    "missing_field": f"lower(btrim(e.event_id)) IN ({_NO_IDS})",
    "bad_timestamp": "e.timestamp < TIMESTAMP '2000-01-01 00:00:00Z' OR e.timestamp > now() + INTERVAL 1 DAY",
    "negative_amount": "e.price < 0 OR e.revenue < 0 OR e.quantity < 0",
    "wrong_type": "isnan(e.price) OR isnan(e.revenue)",
    "bad_value": "NOT e.currency RLIKE '^[A-Z]{3}$'",
}


def run_plain_avro(
    settings: Settings, topic: str, schema: Mapping[str, Any], passes: int, folder: Path
) -> list[dict[str, float]]:
    """Wall and CPU time of each pass over a topic, after a warm-up pass; the jar comes from Maven, for this alone."""
    from jgo.maven import MavenContext
    from pyspark.sql import SparkSession
    from pyspark.sql import functions as F
    from pyspark.sql.avro.functions import from_avro

    group, artifact, version = _SPARK_AVRO
    spark_avro = MavenContext().project(group, artifact).at_version(version).artifact().resolve()
    session = (
        SparkSession.builder.master("local[2]").config("spark.driver.memory", "1g")
        .config("spark.jars", ",".join(map(str, [*spark_jars(), spark_avro])))
        .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
        .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.ui.enabled", "false").config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1").getOrCreate()
    )  # fmt: skip
    with KafkaResource.from_settings(settings) as kafka:
        servers = kafka.client_config()["bootstrap.servers"]
    payload = F.expr(f"substring(value, {HEADER_BYTES + 1})")
    reason = F.expr(f"CASE {' '.join(f'WHEN {rule} THEN {name!r}' for name, rule in _RULES.items())} END")

    def run(target: Path) -> None:
        records = session.readStream.format("kafka").option("subscribe", topic).option("startingOffsets", "earliest")
        records = records.option("kafka.bootstrap.servers", servers)
        read = from_avro(payload, json.dumps(schema), {"mode": "PERMISSIVE"})
        rows = records.load().select(read.alias("e"), "topic", "partition", "offset").withColumn("reason", reason)
        query = rows.select("e.*", "topic", "partition", "offset", "reason").writeStream.format("delta")
        query = query.option("checkpointLocation", f"{target}/checkpoint").trigger(availableNow=True)
        query.start(f"{target}/table").awaitTermination()

    found = measure(passes, run, folder)
    kept = session.read.format("delta").load(f"{folder}/{passes}/table")
    assert kept.count() > 0 and kept.filter("reason IS NOT NULL").count() == 0
    return found
