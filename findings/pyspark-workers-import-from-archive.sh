#!/bin/sh
# Python processes that Spark starts on the driver's own machine import pyspark from the archive `python/lib/pyspark.zip`,
# although the environment holds the same pyspark as a package: Spark puts the archive first on PYTHONPATH. Python keeps no
# compiled code for what lies in an archive, so each such process (workers, and those that plan and read Python data
# sources) compiles the modules again, and again at its next start.
#
# Seen with pyspark 4.2.0 from its package, local master (Java 17). Needs Python 3.11 and Java 17 or newer.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pyspark==4.2.0
"$folder/venv/bin/python" -m compileall -q "$folder/venv/lib" || true
cd "$folder"
cat > where.py <<'PY'
import os
import sys

import pyspark
from pyspark.sql import SparkSession

spark = (
    SparkSession.builder.master("local[1]")
    .config("spark.ui.enabled", "false")
    .config("spark.driver.bindAddress", "127.0.0.1")
    .config("spark.driver.host", "127.0.0.1")
    .getOrCreate()
)


def where(_):
    import os

    import pyspark.serializers

    return [(pyspark.__file__, os.path.exists(pyspark.serializers.__spec__.cached))]


((file, compiled),) = spark.sparkContext.parallelize([0], 1).flatMap(where).collect()
spark.stop()
print("driver:", os.path.relpath(pyspark.__file__, sys.prefix), "compiled:", os.path.exists(pyspark.__spec__.cached))
print("worker:", os.path.relpath(file, sys.prefix), "compiled:", compiled)
raise SystemExit("pyspark.zip" not in file or compiled)
PY
"$folder/venv/bin/python" where.py 2> "$folder/log" || { echo "It has changed."; tail -n 5 "$folder/log" >&2; exit 1; }
echo "As it was seen."
