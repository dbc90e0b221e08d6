"""Rolls up the days of a ledger that are over: rows of a day and query give way to few, in one commit.

The rows of a day are read and replaced at one version of the table: what another group appends meanwhile is a conflict,
and the day is read again. A row that comes later for such a day (of a batch that was planned before a crash) joins the
others at the next round.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from platform_assets.streaming.delta.delta_tables import create_table, open_table
from platform_assets.streaming.delta.retried_commits import no_hooks
from platform_assets.streaming.moments import as_delta_sql, find_midnight
from platform_assets.tables.platform import LEDGER, LOST_RANGES
from platform_assets.tables.spec import TableSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from platform_assets.streaming.context import StreamContext

# `headrace explain` names the very batch of a record of a day that is not rolled up: the newest ones are asked for.
_OVER_FOR = timedelta(hours=6)
# A ledger of older code has years of days: the other upkeep must not wait for them.
_DAYS_OF_ONE_ROUND = 7
# Other groups append once a minute: who loses to so many in a row has a broken clock, or a second writer of its own.
_TRIES = 3

_log = logging.getLogger(__name__)


class LedgerDays:
    """Call `roll_up` after the ledger is written, from the same thread; `queries` are those whose rows it writes.

    `spec` is `LEDGER` or `HOP_LEDGER`. A row whose `batches` is null is as it was written.
    """

    def __init__(self, context: StreamContext, queries: Sequence[str], spec: TableSpec = LEDGER) -> None:
        self.name = spec.name
        self._context = context
        self._queries = queries
        self._time = "arrived_at" if spec is LEDGER else "planned_at"
        self._table = create_table(context.table_uri(spec.name), spec, context.storage_options)
        self._until: date | None = None

    def roll_up(self, now: datetime) -> bool:
        """Rolls up the oldest days that are over, a few; returns whether it did. Looks once a day whether any are."""
        until = (now - _OVER_FOR).astimezone(UTC).date()
        if not self._queries or until == self._until:
            return False
        self._table.update_incremental()
        days = sorted(set(self._find_days(until)))
        done = [self._replace(day, query) for day, query in days[:_DAYS_OF_ONE_ROUND]]
        if all(done) and len(done) == len(days):
            self._until = until
        return any(done)

    def _find_days(self, until: date) -> Iterator[tuple[date, str]]:
        """The days before `until` with rows that nobody has rolled up, by query."""
        import pyarrow as pa
        import pyarrow.compute as pc

        from platform_assets.delta_reader import read_portions

        is_over = pc.field("batches").is_null() & (pc.field(self._time) < find_midnight(until))
        for portion in read_portions(self._table.to_pyarrow_dataset(), ["query", self._time, "batches"], is_over):
            for query in self._queries:
                times = portion[self._time].filter(pc.equal(portion["query"], query))
                yield from ((day, query) for day in pc.unique(times.cast(pa.date32())).to_pylist())

    def _replace(self, day: date, query: str) -> bool:
        import pyarrow.compute as pc
        from deltalake import CommitProperties, write_deltalake
        from deltalake.exceptions import CommitFailedError

        first, last = find_midnight(day), find_midnight(day + timedelta(days=1))
        of_day = (pc.field(self._time) >= first) & (pc.field(self._time) < last)
        condition = (
            f"query = '{query}' and {self._time} >= {as_delta_sql(first)} and {self._time} < {as_delta_sql(last)}"
        )
        for _ in range(_TRIES):
            try:
                write_deltalake(
                    self._table, self._read_rolled_up(query, of_day), mode="overwrite",
                    predicate=condition, commit_properties=CommitProperties(max_commit_retries=0),
                    post_commithook_properties=no_hooks(),
                )  # fmt: skip
            except CommitFailedError:
                self._table.update_incremental()
            else:
                return True
        _log.info("%s of %s is rolled up later: others write the ledger at this moment.", day, query)
        return False

    def _read_rolled_up(self, query: str, row_filter: Any) -> pa.Table:
        from platform_assets.streaming.ledgers import rolled_up, rolled_up_hops

        if self.name == LEDGER.name:
            cuts = rolled_up.find_cuts(self._read_losses())
            return rolled_up.read_rolled_up(self._table, query, cuts, row_filter)
        return rolled_up_hops.read_rolled_up_hops(self._table, query, row_filter)

    def _read_losses(self) -> list[dict[str, Any]]:
        from deltalake.exceptions import TableNotFoundError

        try:
            table = open_table(self._context.table_uri(LOST_RANGES.name), self._context.storage_options)
        except TableNotFoundError:  # nobody has acknowledged a loss
            return []
        return list(table.to_pyarrow_table().to_pylist())
