#!/bin/sh
# fastavro does not know three logical types of the Avro specification 1.12. It reads a uuid of 16 fixed bytes as bytes, a
# timestamp in nanoseconds as a bare number, and a duration as its 12 bytes, without a word. A program that takes a column's
# values for moments or ids by their schema gets something else. The same types in their older spellings are read.
# A `uuid.UUID` for such a field is refused when it is written (TypeError).
#
# Seen with fastavro 1.13.1 (Python 3.11).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet fastavro==1.13.1
cat > "$folder/look.py" <<'PY'
import io
import uuid
from datetime import UTC, datetime

import fastavro

schema = fastavro.parse_schema({
    "type": "record", "name": "Event", "fields": [
        {"name": "id", "type": {"type": "fixed", "name": "Id", "size": 16, "logicalType": "uuid"}},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-nanos"}},
        {"name": "took", "type": {"type": "fixed", "name": "Took", "size": 12, "logicalType": "duration"}},
        {"name": "old_id", "type": {"type": "string", "logicalType": "uuid"}},
        {"name": "old_at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    ],
})
moment, known = datetime(2026, 1, 2, tzinfo=UTC), uuid.UUID(int=5)
nanos = int(moment.timestamp()) * 10**9
event = {"id": known.bytes, "at": nanos, "took": b"\1\0\0\0" * 3, "old_id": known, "old_at": moment}
written = io.BytesIO()
fastavro.schemaless_writer(written, schema, event)
written.seek(0)
found = fastavro.schemaless_reader(written, schema)
print({name: type(value).__name__ for name, value in found.items()})
try:
    fastavro.schemaless_writer(io.BytesIO(), schema, {**event, "id": known})
except TypeError as error:
    refused = str(error)
print("a UUID for 16 fixed bytes:", refused)
raise SystemExit(found != event)
PY
"$folder/venv/bin/python" "$folder/look.py" || { echo "It has changed." >&2; exit 1; }
echo "As it was seen."
