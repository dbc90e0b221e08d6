#!/bin/sh
# `DeltaTable.create(mode="ignore")` promises to leave a table alone that exists. Called by several at the same moment it
# makes the table more than once: who comes second finds the first commit taken, tries again like any other writer, and
# writes version 1, which gives the table another id and another protocol. Others get a CommitFailedError that speaks of
# a changed protocol. With `CommitProperties(max_commit_retries=0)` there is one version, and an error for all others.
#
# Seen with deltalake 1.6.6 and pyarrow 26.0.1 (Python 3.11).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet deltalake==1.6.6 pyarrow==26.0.1
cd "$folder"
cat > create.py <<'PY'
import threading
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Schema
from deltalake.exceptions import CommitFailedError

SCHEMA = Schema.from_arrow(pa.schema([("n", pa.int64())]))
WRITERS = 4


def make(uri, **more):
    """How many versions the table has after all have made it, and how many of them were told of an error."""
    begin = threading.Barrier(WRITERS)

    def create(_):
        begin.wait()
        try:
            DeltaTable.create(uri, SCHEMA, mode="ignore", **more)
        except CommitFailedError:
            return 1
        return 0

    with ThreadPoolExecutor(WRITERS) as pool:
        errors = sum(pool.map(create, range(WRITERS)))
    return DeltaTable(uri).version() + 1, errors


usual = [make(f"usual-{n}") for n in range(200)]
single = [make(f"single-{n}", commit_properties=CommitProperties(max_commit_retries=0)) for n in range(200)]
for name, found in (("as it is", usual), ("without retries", single)):
    print(f"{name}: {max(versions for versions, _ in found)} versions at most, {sum(e for _, e in found)} errors")
twice, once = max(versions for versions, _ in usual), max(versions for versions, _ in single)
raise SystemExit(not (twice > 1 and once == 1))
PY
"$folder/venv/bin/python" create.py || { echo "It has changed." >&2; exit 1; }
echo "As it was seen."
