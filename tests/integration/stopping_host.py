"""A host of the streaming job on a machine of its own name, which may stop itself right before one of its commits.

    python -m tests.integration.stopping_host <host name> <commit to stop at; 0: none>

The stop is a SIGSTOP from within, after the lease was checked and before the table's log is written: where a
process on a machine that sleeps would be found. The code under test is unchanged but for that.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from typing import Any

import dagster as dg
import deltalake

from jobs.supervision.run_records import build_run_config
from tests.integration.streaming_definitions import GROUP, JOB


def main() -> None:
    """Exit code 0 after a run that succeeded."""
    name, stop_at = sys.argv[1], int(sys.argv[2])
    socket.gethostname = lambda: name
    _stop_before_commit(stop_at)
    with dg.DagsterInstance.get() as instance:
        result = JOB.execute_in_process(
            instance=instance, run_config=build_run_config(GROUP.name), raise_on_error=False
        )
    sys.exit(0 if result.success else 1)


def _stop_before_commit(stop_at: int) -> None:
    write, commits = deltalake.write_deltalake, 0

    def stop_and_write(table: Any, *args: Any, **kwargs: Any) -> None:
        nonlocal commits
        if table.table_uri.rstrip("/").endswith("silver/events"):
            commits += 1
            if commits == stop_at:
                os.kill(os.getpid(), signal.SIGSTOP)
        write(table, *args, **kwargs)

    deltalake.write_deltalake = stop_and_write  # type: ignore[assignment]


if __name__ == "__main__":
    main()
