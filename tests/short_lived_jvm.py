"""Spark configuration of JVMs that live for minutes."""

from __future__ import annotations

import json

# The second compiler pays for code that runs for hours. Of a JVM that starts for one test it took as much of two cores
# as the test itself.
SPARK_CONF = {"spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1"}
# The same for the processes of the platform, as an environment variable.
ENVIRONMENT = {"HEADRACE_SPARK_CONF": json.dumps(SPARK_CONF)}
