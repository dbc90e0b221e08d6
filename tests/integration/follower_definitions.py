"""A code location with the groups of sinks and of alerts only, which have no Spark, for a test under a real daemon."""

import dagster as dg

from jobs.definitions.stream_supervisor import build_stream_supervisor
from jobs.definitions.streaming_job import build_streaming_job
from platform_assets.alerting.catalogue import load_groups

GROUPS = [group for group in load_groups() if group.sinks or group.alerts]
JOB = build_streaming_job(GROUPS)

defs = dg.Definitions(jobs=[JOB], sensors=[build_stream_supervisor(GROUPS, JOB)])
