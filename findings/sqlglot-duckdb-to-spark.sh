#!/bin/sh
# sqlglot carries some functions of DuckDB's dialect over to Spark's under their own name, or near it, although the two
# engines mean different things by them: the statement runs in both and comes to another value, and the strictest level
# (`unsupported_level=RAISE`) says nothing.
#
# Seen with sqlglot 30.30.0, DuckDB 2.0.0, Spark 4.2.0 (Java 17). Needs Python 3.11 and Java 17 or newer.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet sqlglot==30.30.0 duckdb==2.0.0 pyspark==4.2.0
cd "$folder"
cat > compare.py <<'PY'
import duckdb
import sqlglot
from pyspark.sql import SparkSession

# Statement in DuckDB's dialect, its value there, the value of the translation in Spark.
SEEN = [
    ("SELECT log(100.0)", 2.0, 4.605170185988092),
    ("SELECT dayofweek(DATE '2026-03-02')", 1, 2),
    ("SELECT isodow(DATE '2026-03-02')", 1, 3),
    ("SELECT dayname(DATE '2026-03-02')", "Monday", "Mon"),
    ("SELECT date_diff('hour', TIMESTAMP '2026-03-01 10:59:00', TIMESTAMP '2026-03-01 11:01:00')", 1, 0),
    ("SELECT epoch(TIMESTAMP '1970-01-01 00:00:01.25')", 1.25, 1),
    ("SELECT regexp_replace('aaa', 'a', 'b')", "baa", "bbb"),
    ("SELECT substr('abc', 0, 2)", "a", "ab"),
    ("SELECT CAST(2.5 AS INT)", 3, 2),
    ("SELECT list(x ORDER BY x DESC) FROM (VALUES (1), (3), (2)) AS v(x)", [3, 2, 1], [1, 3, 2]),
]
spark = (
    SparkSession.builder.master("local[1]")
    .config("spark.ui.enabled", "false")
    .config("spark.driver.bindAddress", "127.0.0.1")
    .config("spark.driver.host", "127.0.0.1")
    .config("spark.sql.session.timeZone", "UTC")
    .getOrCreate()
)
changed = 0
for statement, in_duckdb, in_spark in SEEN:
    translated = sqlglot.transpile(
        statement, read="duckdb", write="spark", unsupported_level=sqlglot.ErrorLevel.RAISE
    )[0]
    values = duckdb.execute(statement).fetchall()[0][0], spark.sql(translated).collect()[0][0]
    print(f"{statement}\n  DuckDB {values[0]!r}; as {translated}: Spark {values[1]!r}")
    changed += values != (in_duckdb, in_spark)
spark.stop()
raise SystemExit(f"{changed} differ from what was seen" if changed else 0)
PY
"$folder/venv/bin/python" compare.py 2> "$folder/log" || { tail -n 5 "$folder/log" >&2; exit 1; }
echo "As it was seen."
