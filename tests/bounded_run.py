"""Runs a group in bounded mode, as `make drain` does, without its process."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from platform_assets.streaming.engine.query_group import QueryGroup
    from platform_assets.streaming.engine.relay_group import RelayGroup

# Generous: six queries' first batches take 15 s on two cores, and took two minutes next to three other programs that
# used them. What is waited for is a condition: only a hang may reach this.
LIMIT_SECONDS = 300.0
# Each look asks the JVM of each query: twenty a second took a tenth of a core from what is waited for.
_LOOK_SECONDS = 0.2


def run_to_end(group: QueryGroup | RelayGroup) -> None:
    """Runs until nothing is unread; raises what a query died of. The group is stopped in every case."""
    try:
        group.start(bounded=True)
        deadline = time.monotonic() + LIMIT_SECONDS
        while not group.is_finished():
            if (failure := group.failure()) is not None:
                raise failure
            assert time.monotonic() < deadline, "the bounded run does not end"
            time.sleep(_LOOK_SECONDS)
    finally:
        group.stop(30)
