"""Group `telemetry`: what sensors measure, and every stream over it."""

from __future__ import annotations

from platform_assets.streaming.stream_spec import Group

GROUP = Group(name="telemetry", topics=("telemetry",))
