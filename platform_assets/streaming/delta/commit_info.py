"""What Headrace writes about itself into a commit of a Delta table: `{"headrace": {...}}`, as its `userMetadata`.

Logs outlive the code that wrote them: the keys and their meaning stay. The checks of the ledger read them without this
file (`checks.ledger_entries`), and reports have a form of their own (`reports.daily_report`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

_START = '{"headrace"'
_BEFORE_VALUE = ("query", "app", "batch", "ranges", "source")
_AFTER_VALUE = ("arrival_micros", "topic_id", "partitions")
_LAST = ("rows_by_type", "is_compacted", "rows")
# As `Frontier.as_json` has them. The first is in every commit that says how far time is, if only as null.
_FRONTIER = ("frontier", "frontier_partitions", "latest_event", "clocks")


class CommitKind(StrEnum):
    """Why a commit was made: the key by which its JSON says so.

    The first member whose key is there is the commit's kind: a batch may be a replay's or a requeue's.
    """

    REPLAY = "replay"
    """Rows of a replay were swapped in; the value is the stream, or true for a whole table."""
    REPLAY_UNDONE = "replay_undone"
    """A swap was taken back; the value is the stream."""
    REQUEUE = "requeue"
    """Quarantined records were re-ingested; the value is the number of the requeue."""
    RECOMPUTE = "recompute"
    """Rows were taken out because a stream begins anew; the value is the stream."""
    REPAIR = "repair"
    """Rows around late events were computed again, or the events marked as repaired; the value is the stream."""
    ERASURE = "erasure"
    """A user is forgotten; the value is the user's hash."""
    EXPIRY = "expired_until"
    """Rows of days before the value, a date, were removed by the policy."""
    UNFINISHED_BATCH = "unfinished_batch"
    """Rows of a batch that never came to its last commit were taken out of a side table."""
    RESET_TIME = "reset_time"
    """The frontier was set back to where events have brought it."""
    LONG_SESSIONS = "long_sessions"
    """Parts of sessions that go on were listed for repair; the value is the stream."""
    CHANGED_DAYS = "changed_days"
    """The account of changed days; the value has the version of each table that was looked at."""
    COMPLETE_UNTIL = "complete_until"
    """The account of how far each table is final."""
    EXPIRED_ROWS = "expired"
    """The account of what was removed by the policy; the value is its number of new rows."""
    FORGOTTEN_USERS = "forgotten_users"
    """The register of users; the value is how many it has."""
    ACKNOWLEDGED_LOSS = "acknowledged"
    """Somebody has acknowledged that Kafka lost records."""
    BATCH = "batch"
    """A micro-batch of a query."""
    MARK = "frontier"
    """The frontier moved in a silence, without rows."""
    OTHER = "other"
    """None that this code knows."""


# Their keys have fields of their own.
_WITHOUT_VALUE = (CommitKind.BATCH, CommitKind.MARK, CommitKind.OTHER)


@dataclass(frozen=True)
class CommitInfo:
    """One commit of Headrace's; None is what it does not say.

    `value` stands at the key of its kind. `ranges` (`[topic, partition, from_offset, until_offset]`) or `source` (an
    offset of `commit_source`) say what a batch read; `partitions` is its account by topic partition
    (`PartitionEntry.as_json`), `frontier` what `Frontier.as_json` gives, `rows_by_type` its rows by event type, `rows`
    all its rows. `notes` are further facts for people who read the log.
    """

    kind: CommitKind
    value: Any = True
    query: str | None = None
    app: str | None = None
    batch: int | None = None
    ranges: Sequence[Sequence[Any]] | None = None
    source: Any = None
    erased_rows: int | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)
    arrival_micros: int | None = None
    topic_id: str | None = None
    partitions: Sequence[Mapping[str, Any]] | None = None
    frontier: Mapping[str, Any] | None = None
    rows_by_type: Mapping[str, int] | None = None
    is_compacted: bool | None = None
    rows: int | None = None

    @classmethod
    def of_batch(cls, query: str, app: str, batch: int, **facts: Any) -> Self:
        """A commit of a query's batch, which is written once under this number and the transaction's name `app`.

        `facts` are further fields; without a `kind` it is a batch like all others.
        """
        return cls(**{"kind": CommitKind.BATCH, "query": query, "app": app, "batch": batch, **facts})

    @classmethod
    def parse(cls, user_metadata: str | None) -> Self | None:
        """The reverse of `as_json`, also for what older code wrote; None when another writer made the commit."""
        if not user_metadata or not user_metadata.startswith(_START):
            return None
        body: dict[str, Any] = json.loads(user_metadata)["headrace"]
        kind = next((kind for kind in CommitKind if kind in body), CommitKind.OTHER)
        value = True if kind in _WITHOUT_VALUE else body.pop(kind)
        frontier = {name: body.pop(name) for name in _FRONTIER if name in body}
        known = {
            name: body.pop(name) for name in (*_BEFORE_VALUE, "erased_rows", *_AFTER_VALUE, *_LAST) if name in body
        }
        return cls(kind, value, frontier=frontier if "frontier" in frontier else None, notes=body, **known)

    @property
    def transaction(self) -> tuple[str, int] | None:
        """The Delta transaction of a batch, by which it is written once; None for what is no batch's."""
        return None if self.app is None or self.batch is None else (self.app, self.batch)

    @property
    def what_was_read(self) -> dict[str, Any]:
        """What a batch read, as on record before it ran: the same on every replay of the batch."""
        found = {"ranges": self.ranges, "source": self.source}
        found["requeue"] = self.value if self.kind is CommitKind.REQUEUE else None
        return {name: value for name, value in found.items() if value is not None}

    @property
    def frontier_micros(self) -> int | None:
        """The frontier in microseconds; None also before the first event."""
        return None if self.frontier is None else self.frontier["frontier"]

    def as_json(self) -> str:
        """The text for Delta's `userMetadata`."""
        body = self._known(_BEFORE_VALUE)
        if self.kind not in _WITHOUT_VALUE:
            body[self.kind] = self.value
        body |= {**self._known(("erased_rows",)), **self.notes, **self._known(_AFTER_VALUE)}
        body |= {**(self.frontier or {}), **self._known(_LAST)}
        return json.dumps({"headrace": body}, separators=(",", ":"))

    def _known(self, names: Sequence[str]) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in names}
        return {name: value for name, value in values.items() if value is not None}
