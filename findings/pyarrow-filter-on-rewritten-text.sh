#!/bin/sh
# Files that delta-rs rewrites itself (UPDATE, DELETE, MERGE) name their text columns `string_view` in the Arrow
# schema that Parquet files carry along; those that it is given as Arrow rows name them `string`. The dataset that
# `DeltaTable.to_pyarrow_dataset` gives says `string` for all. A filter on such a column, by pyarrow itself or handed down
# by DuckDB, then ends with "Function 'equal' has no kernel matching input types (string, string_view)": a table in which a
# row was changed can no longer be asked for a text. DuckDB's own reader of Parquet finds the row.
#
# Seen with deltalake 1.6.6, pyarrow 26.0.1 and duckdb 2.0.0 (Python 3.11).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet deltalake==1.6.6 pyarrow==26.0.1 duckdb==2.0.0
cd "$folder"
cat > filter.py <<'PY'
from urllib.parse import unquote, urlsplit

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from deltalake import DeltaTable, write_deltalake

for number in (1, 2):
    write_deltalake("table", pa.table({"place": [f"p{number}"], "n": [number]}), mode="append")


def ask() -> list[str]:
    table = DeltaTable("table")
    files = [unquote(urlsplit(uri).path) for uri in table.file_uris()]
    kinds = sorted({str(pq.read_schema(file).field("place").type) for file in files})
    dataset = table.to_pyarrow_dataset()
    found = [f"files: {', '.join(kinds)}; dataset: {dataset.schema.field('place').type}"]
    connection = duckdb.connect()
    connection.register("rows", dataset)
    asked = {
        "pyarrow": lambda: dataset.to_table(filter=ds.field("place") == "p2")["n"].to_pylist(),
        "duckdb over the dataset": lambda: connection.sql("select n from rows where place = 'p2'").fetchall(),
        "duckdb over the files": lambda: connection.sql(f"select n from read_parquet({files}) where place = 'p2'").fetchall(),
    }
    for name, question in asked.items():
        try:
            found.append(f"{name}: {question()}")
        except Exception as error:
            found.append(f"{name}: {'no kernel' if 'no kernel matching' in str(error) else error}")
    return found


before = ask()
DeltaTable("table").update({"n": "n"})
after = ask()
print("as appended:", *before, "updated:", *after, sep="\n  ")
expected = [
    ["files: string; dataset: string", "pyarrow: [2]", "duckdb over the dataset: [(2,)]", "duckdb over the files: [(2,)]"],
    ["files: string_view; dataset: string", "pyarrow: no kernel", "duckdb over the dataset: no kernel",
     "duckdb over the files: [(2,)]"],
]
raise SystemExit([before, after] != expected)
PY
"$folder/venv/bin/python" filter.py || { echo "It has changed." >&2; exit 1; }
echo "As it was seen."
