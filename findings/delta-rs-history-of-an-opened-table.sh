#!/bin/sh
# `DeltaTable.history(limit)` of a table that was opened before others committed: the list begins with those newer
# commits, it is longer than `limit`, and each commit has the version of another one. The newest gets the version at
# which the object stands, and so on down, below zero without a limit. Who adds up what commits say, from where it
# stopped last time, takes a commit twice now and then. Here each commit says in its own metadata which version it is.
#
# Seen with deltalake 1.6.6 (Python 3.11), an object opened at version 3, and two commits since:
#   history(2): versions 3, 2, 1, 0 of what are 5, 4, 3, 2
#   history():  versions 3, 2, 1, 0, -1, -2 of what are 5, 4, 3, 2, 1, 0
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet deltalake==1.6.6 pyarrow==26.0.1
cd "$folder"
cat > look.py <<'PY'
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, write_deltalake


def append(version):
    said = CommitProperties(custom_metadata={"is": str(version)})
    write_deltalake("table", pa.table({"n": [version]}), mode="append", commit_properties=said)


for version in range(4):
    append(version)
opened = DeltaTable("table")
for version in range(4, 6):
    append(version)
seen = {}
for limit in (2, None):
    commits = opened.history(limit)
    seen[limit] = [commit["version"] for commit in commits], [int(commit["is"]) for commit in commits]
    print(f"history({limit}) of version {opened.version()}: versions {seen[limit][0]} of what are {seen[limit][1]}")
expected = {2: ([3, 2, 1, 0], [5, 4, 3, 2]), None: ([3, 2, 1, 0, -1, -2], [5, 4, 3, 2, 1, 0])}
raise SystemExit(seen != expected)
PY
"$folder/venv/bin/python" look.py || { echo "It has changed." >&2; exit 1; }
echo "As it was seen."
