"""A code location with the streaming job and its supervisor only, for tests under a real daemon."""

import dagster as dg

from jobs.definitions.stream_supervisor import build_stream_supervisor
from jobs.definitions.streaming_job import build_streaming_job
from jobs.supervision.stream_running import build_stream_running_checks
from platform_assets.streaming.stream_spec import StreamGroup, select_ingest
from platform_assets.streams import load_streams

GROUP = StreamGroup("clickstream", select_ingest(load_streams()))
JOB = build_streaming_job([GROUP])

defs = dg.Definitions(
    assets=[dg.AssetSpec(list(table.asset_path)) for stream in GROUP.streams for table in stream.tables],
    jobs=[JOB],
    sensors=[build_stream_supervisor([GROUP], JOB)],
    asset_checks=[build_stream_running_checks([GROUP])],
)
