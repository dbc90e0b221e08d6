#!/bin/sh
# A DELETE whose condition compares a timestamp column (UTC, microseconds: what Delta calls `timestamp`) with a timestamp
# literal of SQL, or with a cast of text to a timestamp, ends with "Invalid comparison operation": the literal is taken as
# nanoseconds without a zone, and the two are not brought to one type before files are left out by their statistics. The
# same condition with plain text in place of the literal deletes the rows.
#
# Seen with deltalake 1.6.6 and pyarrow 26.0.1 (Python 3.11).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet deltalake==1.6.6 pyarrow==26.0.1
cd "$folder"
cat > delete.py <<'PY'
from datetime import UTC, datetime

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

times = pa.array([datetime(2025, 3, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)], pa.timestamp("us", "UTC"))
write_deltalake("table", pa.table({"at": times}))


def delete(moment: str) -> str:
    try:
        return f"{DeltaTable('table').delete(f'at > {moment}')['num_deleted_rows']} row deleted"
    except Exception as error:
        return "Invalid comparison" if "Invalid comparison operation" in str(error) else str(error)


found = {
    moment: delete(moment)
    for moment in ("timestamp '2026-01-01T00:00:00Z'", "cast('2026-01-01T00:00:00Z' as timestamp)", "'2026-01-01T00:00:00Z'")
}
for moment, what in found.items():
    print(f"at > {moment}: {what}")
raise SystemExit(list(found.values()) != ["Invalid comparison", "Invalid comparison", "1 row deleted"])
PY
"$folder/venv/bin/python" delete.py || { echo "It has changed." >&2; exit 1; }
echo "As it was seen."
