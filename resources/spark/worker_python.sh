#!/bin/sh
# The interpreter of Spark's Python processes on this machine, without the archives of pyspark that Spark puts in front of
# PYTHONPATH: what lies in an archive is compiled again by each process, which takes most of a second and 15 MiB. The
# environment holds the same pyspark, compiled. SPARK_WORKER_INTERPRETER is that environment's Python.
IFS=:
kept=
for entry in $PYTHONPATH; do
    case $entry in
        */pyspark.zip | */py4j-*-src.zip | */spark-core_*.jar) ;;
        *) kept=$kept:$entry ;;
    esac
done
export PYTHONPATH="${kept#:}"
exec "$SPARK_WORKER_INTERPRETER" "$@"
