"""Runs a query group in bounded mode, as `make drain` does, without its process."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from platform_assets.streaming.query_group import QueryGroup

# Generous: a bounded run of two stages takes 5-15 s on two busy cores. Only a hang reaches it.
LIMIT_SECONDS = 180.0


def run_to_end(group: QueryGroup) -> None:
    """Until nothing is unread; raises what a query died of. The group is stopped in every case."""
    try:
        group.start(bounded=True)
        deadline = time.monotonic() + LIMIT_SECONDS
        while not group.is_finished():
            if (failure := group.failure()) is not None:
                raise failure
            assert time.monotonic() < deadline, "the bounded run does not end"
            time.sleep(0.05)
    finally:
        group.stop(30)
