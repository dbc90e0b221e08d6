"""A host of the streaming job on a machine of its own name, which may stop itself right before one of its commits.

    python -m tests.integration.stopping_host <host name> <commit to stop at; 0: none>

The stop is a SIGSTOP from within, after the lease was checked and before the table's log is written: where a
process on a machine that sleeps would be found. Two machines share no SQLite file, as the hosts of this test do: the
stop comes while no thread of the process has a connection open, whose lock would keep everybody else from Dagster's
storage. The code under test is unchanged but for that.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from typing import Any

import dagster as dg
import deltalake
from sqlalchemy import event
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.pool import ConnectionPoolEntry, Pool

from jobs.supervision.run_records import build_run_config
from tests.integration.streaming_definitions import GROUP, JOB


class OpenConnections:
    """Counts those of all threads. One is used only while nobody is in `none_open`.

    SQLAlchemy announces a commit before it happens, and a connection may tidy SQLite's files up under a lock while it
    closes: only one that is closed surely holds no lock. Dagster opens one for each use.
    """

    def __init__(self) -> None:
        self.none_open = threading.Condition()
        self._open: set[int] = set()
        self._close = DefaultDialect.do_close
        event.listen(Pool, "checkout", self._take)
        DefaultDialect.do_close = lambda dialect, connection: self._end(dialect, connection)  # type: ignore[method-assign]

    def stop_process(self) -> None:
        """SIGSTOP as soon as no connection is open."""
        with self.none_open:
            self.none_open.wait_for(lambda: not self._open)
            os.kill(os.getpid(), signal.SIGSTOP)

    def _take(self, connection: Any, record: ConnectionPoolEntry, proxy: Any) -> None:
        with self.none_open:
            self._open.add(id(connection))

    def _end(self, dialect: DefaultDialect, connection: Any) -> None:
        self._close(dialect, connection)
        with self.none_open:
            self._open.discard(id(connection))
            self.none_open.notify_all()


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
    commit, commits, connections = deltalake.DeltaTable.create_write_transaction, 0, OpenConnections()

    def stop_and_commit(table: Any, *args: Any, **kwargs: Any) -> None:
        nonlocal commits
        if table.table_uri.rstrip("/").endswith("silver/events"):
            commits += 1
            if commits == stop_at:
                connections.stop_process()
        commit(table, *args, **kwargs)

    deltalake.DeltaTable.create_write_transaction = stop_and_commit  # type: ignore[assignment]


if __name__ == "__main__":
    main()
