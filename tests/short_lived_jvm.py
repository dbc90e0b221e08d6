"""Spark configuration of JVMs that live for minutes."""

from __future__ import annotations

import json

from resources.spark.configuration import for_minutes

SPARK_CONF = for_minutes({})
# The same for the processes of the platform, as an environment variable.
ENVIRONMENT = {"HEADRACE_SPARK_CONF": json.dumps(SPARK_CONF)}
