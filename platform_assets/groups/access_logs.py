"""Group `access_logs`: lines of web servers and sshd, and every stream over them."""

from __future__ import annotations

from platform_assets.streaming.stream_spec import Group

GROUP = Group(name="access_logs", topics=("access_logs",))
