"""A Spark application that shuffles, spills and keeps rows with one text, and looks for it on the local disk.

Run as a module with a home and whether it is encrypted; says as JSON how many files there are, how many have the text,
and at which addresses this process and the JVM listen.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import psutil

from resources.settings import Settings
from resources.spark.session import SparkResource
from tests.short_lived_jvm import SPARK_CONF

TEXT = "a planted plain text that nobody is to read"
# Compressed, no text is plain. The UI is there to be seen where it listens.
CONF = {
    "spark.shuffle.compress": "false", "spark.shuffle.spill.compress": "false", "spark.rdd.compress": "false",
    "spark.sql.inMemoryColumnarStorage.compressed": "false", "spark.shuffle.spill.numElementsForceSpillThreshold": "50",
    "spark.sql.shuffle.sort.merge.spill.threshold": "50", "spark.sql.adaptive.enabled": "false",
    "spark.ui.enabled": "true", "spark.ui.port": "0", **SPARK_CONF,
}  # fmt: skip


def main(home: Path, *, encrypt: bool) -> None:
    """Prints what it has found."""
    from pyspark import StorageLevel
    from pyspark.sql import functions as F

    settings = Settings(
        home=home, kafka_bootstrap_servers="", spark_heap_mib=512, spark_conf=CONF, spark_encrypt=encrypt
    )
    spark = SparkResource.from_settings(settings, "spilled")
    with spark.running() as session:
        numbered = session.range(2000).select("id", F.concat(F.lit(TEXT + " "), F.col("id")).alias("text"))
        kept = numbered.repartition(4, "text").persist(StorageLevel.DISK_ONLY)
        by_python: Any = kept.rdd.map(lambda row: (row["text"], row["id"])).sortByKey(numPartitions=3)
        assert by_python.count() == kept.orderBy("text").count() == 2000
        folder = home / "spark" / "local"
        contents = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
        processes = {os.getpid(), spark.jvm_pid}
        listening = [
            part.laddr.ip
            for part in psutil.net_connections("tcp")
            if part.laddr and part.pid in processes and part.status == psutil.CONN_LISTEN
        ]
        blocks = [content for content in contents if len(content) > 1000]
        found = {"files": len(blocks), "plain": sum(TEXT.encode() in each for each in blocks), "listening": listening}
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), encrypt=sys.argv[2] == "encrypt")
