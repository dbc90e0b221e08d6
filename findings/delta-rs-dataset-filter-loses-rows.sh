#!/bin/sh
# The dataset that `DeltaTable.to_pyarrow_dataset` gives tells Arrow, file by file, between what its values lie. Of a
# column that has bounds in the log for some files, and none for this one, it says that each value is at least null, and
# at most null, which no value is: a column that was added later, one with an infinity in it, the booleans that Spark has
# written. A filter then leaves out files that hold rows, without a word; DuckDB over that dataset does so in part.
# `to_pyarrow_table` without a filter, and delta-rs's own SQL, find them.
#
# Seen with deltalake 1.6.6, pyarrow 26.0.1 and duckdb 2.0.0 (Python 3.11).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet deltalake==1.6.6 pyarrow==26.0.1 duckdb==2.0.0
cd "$folder"
cat > filter.py <<'PY'
import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
from deltalake import DeltaTable, QueryBuilder, write_deltalake
from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

connection = duckdb.connect()
for n, amount, later in ((1, 1.0, None), (2, float("inf"), "x"), (3, 2.0, "y")):
    rows = pa.table({"n": [n], "amount": [amount]})
    if later:
        rows = rows.append_column("later", pa.array([later]))
    write_deltalake("table", rows, mode="append", schema_mode="merge")
table = DeltaTable("table")
# A process that ends while files of a Python file system are open is aborted: apache/arrow issue 34314.
dataset = table.to_pyarrow_dataset(filesystem=SubTreeFileSystem("table", LocalFileSystem()))
connection.register("rows", dataset)
asked = {
    "added later": (ds.field("later").is_null(), "later is null"),
    "an infinity": (ds.field("amount") > 1.5, "amount > 1.5"),
}
found = {}
for name, (expression, sql) in asked.items():
    by_sql = QueryBuilder().register("rows", table).execute(f"select n from rows where {sql}")
    found[name] = (
        dataset.to_table(filter=expression).num_rows,
        len(connection.sql(f"select n from rows where {sql}").fetchall()),
        pa.table(by_sql).num_rows,
    )
for name, (by_arrow, by_duckdb, by_delta) in found.items():
    print(f"{name}: {by_arrow} rows by Arrow, {by_duckdb} by DuckDB over it, {by_delta} by delta-rs")
raise SystemExit(found != {"added later": (0, 0, 1), "an infinity": (1, 2, 2)})
PY
"$folder/venv/bin/python" filter.py || { echo "It has changed." >&2; exit 1; }
echo "As it was seen."
