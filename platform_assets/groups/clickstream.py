"""Group `clickstream`: the shop's events, and every stream over them."""

from __future__ import annotations

from platform_assets.streaming.stream_spec import Group

GROUP = Group(name="clickstream", topics=("events",), closed_days="closed_days")
