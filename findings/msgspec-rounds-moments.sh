#!/bin/sh
# A moment in RFC 3339 with digits behind the microsecond is rounded by msgspec, and cut by Python, DuckDB and polars;
# pyarrow refuses it. So the last tenth of a microsecond of a day is on the next day for who reads JSON by msgspec, and
# two readers of one record do not agree about its moment. Senders in Java, Go and .NET write seven or nine digits.
#
# Seen with msgspec 0.22.0, duckdb 2.0.0, polars 2.1.0 and pyarrow 26.0.1 (Python 3.11).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet msgspec==0.22.0 duckdb==2.0.0 polars==2.1.0 pyarrow==26.0.1 pytz tzdata
cat > "$folder/read.py" <<'PY'
from datetime import UTC, datetime

import duckdb
import msgspec
import polars as pl
import pyarrow as pa

TEXT = "2026-02-28T23:59:59.9999999Z"
found = {
    "msgspec": msgspec.json.decode(f'"{TEXT}"', type=datetime),
    "python": datetime.fromisoformat(TEXT),
    "duckdb": duckdb.sql(f"select timestamptz '{TEXT}' at time zone 'UTC'").fetchall()[0][0].replace(tzinfo=UTC),
    "polars": pl.Series([TEXT]).str.to_datetime(time_unit="us", time_zone="UTC").to_list()[0],
}
try:
    pa.array([TEXT]).cast(pa.timestamp("us", tz="UTC"))
except pa.ArrowInvalid:
    found["pyarrow"] = "refused"
for name, moment in found.items():
    print(f"{name}: {moment}")
cut = datetime(2026, 2, 28, 23, 59, 59, 999999, tzinfo=UTC)
as_seen = {"msgspec": datetime(2026, 3, 1, tzinfo=UTC), **dict.fromkeys(("python", "duckdb", "polars"), cut), "pyarrow": "refused"}
raise SystemExit(found != as_seen)
PY
"$folder/venv/bin/python" "$folder/read.py" || { echo "It has changed." >&2; exit 1; }
echo "As it was seen."
