#!/bin/sh
# Tables with long texts, as delta-rs writes them.
#
# `write_deltalake` puts the least and the greatest text of each file into the commit, cut after 64 characters. With any
# `writer_properties` at all, such as another compression, they are not cut: a text of a megabyte puts two of them into
# the log, which each reader of the table parses, and each checkpoint keeps.
#
# A `RecordBatchReader` that gives one row at a time is not written row by row: thousands of rows are gathered first,
# however large they are. So memory grows with all of what is written, and a smaller row group or file does not help.
#
# Seen with deltalake 1.6.6 and pyarrow 26.0.1 (Python 3.11).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet deltalake==1.6.6 pyarrow==26.0.1
cd "$folder"
cat > statistics.py <<'PY'
import json

import pyarrow as pa
from deltalake import WriterProperties, write_deltalake

found = {}
for name, properties in (("usual", None), ("zstd", WriterProperties(compression="ZSTD"))):
    write_deltalake(name, pa.table({"text": ["x" * 1_000_000]}), writer_properties=properties)
    with open(f"{name}/_delta_log/{0:020}.json") as log:
        (added,) = (action["add"] for action in map(json.loads, log) if "add" in action)
    found[name] = len(json.loads(added["stats"])["minValues"]["text"])
    print(f"{name}: the commit holds {found[name]:,} characters of the least text")
raise SystemExit(found != {"usual": 64, "zstd": 1_000_000})
PY
cat > memory.py <<'PY'
import random
import resource
import sys

import pyarrow as pa
from deltalake import DeltaTable, WriterProperties, write_deltalake

MIB = 1 << 20
schema = pa.schema([("bytes", pa.binary())])


def read_rows(count):
    for _ in range(count):
        yield pa.RecordBatch.from_arrays([pa.array([random.randbytes(8 * MIB)])], schema=schema)


count = int(sys.argv[1])
DeltaTable.create("rows", schema, mode="overwrite")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
write_deltalake(
    "rows", pa.RecordBatchReader.from_batches(schema, read_rows(count)), mode="append",
    target_file_size=16 * MIB, writer_properties=WriterProperties(max_row_group_size=1),
)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
PY
"$folder/venv/bin/python" statistics.py || { echo "It has changed." >&2; exit 1; }
few=$("$folder/venv/bin/python" memory.py 8)
many=$("$folder/venv/bin/python" memory.py 64)
echo "memory for 8 rows of 8 MiB, one at a time: $few MiB; for 64 of them: $many MiB"
# What 56 rows more take, in MiB: all of them at least once.
[ $((many - few)) -gt 448 ] || { echo "It has changed." >&2; exit 1; }
echo "As it was seen."
