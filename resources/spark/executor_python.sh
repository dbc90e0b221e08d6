#!/bin/sh
# The interpreter of Spark's Python processes on an executor: the machine's own, with this project's code and packages,
# which lie next to this script in the unpacked archive. They come before Spark's own archives of pyspark, so that driver
# and executors have the same. HEADRACE_EXECUTOR_PYTHON names the interpreter.
here=$(cd "$(dirname "$0")" && pwd -P)
if ! command -v "$HEADRACE_EXECUTOR_PYTHON" > /dev/null; then
    echo "headrace: there is no $HEADRACE_EXECUTOR_PYTHON here: install it, or set HEADRACE_EXECUTOR_PYTHON" >&2
    exit 127
fi
unset PYTHONHOME
if [ "$("$HEADRACE_EXECUTOR_PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')" \
        != "$(cat "$here/python-version")" ]; then
    # Packages of another version do not load. With Spark's own pyspark it tells the driver which two versions have met.
    exec "$HEADRACE_EXECUTOR_PYTHON" "$@"
fi
export PYTHONPATH="$here/lib:$PYTHONPATH" PYTHONNOUSERSITE=1 SPARK_WORKER_INTERPRETER="$HEADRACE_EXECUTOR_PYTHON"
exec sh "$here/lib/resources/spark/worker_python.sh" "$@"
