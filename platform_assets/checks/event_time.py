"""The check that says what the events' times are worth: how far they lead or lag, and whether time goes on at all.

A wrong clock or zone does not stop the streams, and so no other check sees it. Looked at are the events that arrived
within the last hour, by Kafka partition, against when they were sent (their Kafka timestamp, or their arrival where
that is older or of no use): as the frontier judges them, see `streaming.frontier`.
"""

# No postponed annotations in this file: Dagster reads those of assets and checks at definition time.
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg

from platform_assets.checks.duckdb_check import build_duckdb_check
from platform_assets.streaming.delta.commit_info import CommitInfo
from platform_assets.streaming.delta.delta_tables import build_arrow_schema
from platform_assets.streaming.stream_spec import KafkaStream
from platform_assets.tables.spec import TableSpec

if TYPE_CHECKING:
    import duckdb
    from deltalake import DeltaTable

_LOOKED_AT = timedelta(hours=1)
# Clocks of hosts differ by seconds; the event time of nobody's silence lies further ahead.
_AHEAD = timedelta(minutes=5)
# With a batch a second they are an hour of a stream's commits.
_COMMITS_SEARCHED = 4_000

# When each event was sent, and which are far ahead, as the frontier judges it.
_BY_PARTITION = """
    SELECT kafka_partition, count(*) AS events, median(lead) / 1e6 AS median_lead,
           quantile_cont(lead, 0.99) / 1e6 AS p99_lead, quantile_cont(lead, 0.01) / 1e6 AS p01_lead,
           avg((lead > $far)::INT) AS far_ahead, count(*) FILTER (is_anonymous) AS anonymous
    FROM (SELECT kafka_partition, is_anonymous,
                 happened - least(arrived, if(sent < happened - $before, arrived, sent)) AS lead
          FROM (SELECT kafka_partition, {anonymous} AS is_anonymous, epoch_us(event_time) AS happened,
                       epoch_us(ingested_at) AS arrived, epoch_us(kafka_timestamp) AS sent
                FROM arrived_events WHERE ingested_at > $since))
    GROUP BY ALL ORDER BY ALL
"""


@dataclass(frozen=True)
class EventTimeLimits:
    """The limits at which the check warns and fails.

    `ahead_share`: of a partition's events that are dated more than five minutes ahead; above the first it warns, above
    the second it fails. `standstill`: how long the frontier may stand still while events come.
    """

    ahead_share: tuple[float, float] = (0.01, 0.5)
    standstill: timedelta = timedelta(minutes=30)


@dataclass(frozen=True)
class Clocks:
    """The clocks of one partition's events of the last hour: seconds by which they are dated after they were sent."""

    kafka_partition: int
    events: int
    median_lead: float
    p99_lead: float
    p01_lead: float
    far_ahead: float
    anonymous: int

    def __str__(self) -> str:
        return (
            f"partition {self.kafka_partition}: half of {self.events:,} events are dated {_after(self.median_lead)} "
            f"they were sent (99 of 100 between {_after(self.p01_lead)} and {_after(self.p99_lead)}), "
            f"{self.far_ahead:.1%} more than five minutes after it"
        )


def build_event_time_checks(streams: Iterable[KafkaStream], limits: EventTimeLimits) -> list[dg.AssetChecksDefinition]:
    """One check `event_time` for each of these streams over Kafka; needs the resources `lakehouse` and `duckdb`."""
    return [_build_check(stream, limits) for stream in streams]


def read_clocks(
    connection: "duckdb.DuckDBPyConnection", events: "DeltaTable", spec: TableSpec, now: datetime
) -> list[Clocks]:
    """The partitions' clocks, by the events that arrived within the hour before `now`; `spec` is of that table."""
    from platform_assets.delta_reader import register_pinned
    from platform_assets.streaming.frontier import SENT_BEFORE_EVENT_MICROS
    from platform_assets.streaming.sender_clocks import FAR_MICROS

    since = now - _LOOKED_AT
    bounds = ("ingested_at", since, datetime.max.replace(tzinfo=UTC))
    register_pinned(connection, "arrived_events", events, bounds, build_arrow_schema(spec))
    limits = {"since": since, "far": FAR_MICROS, "before": SENT_BEFORE_EVENT_MICROS}
    anonymous = "false" if spec.roles.user_id is None else "is_anonymous"
    found = connection.sql(_BY_PARTITION.format(anonymous=anonymous), params=limits)
    return [Clocks(**row) for row in found.to_arrow_table().to_pylist()]


def find_standstill(commits: Iterable[CommitInfo]) -> tuple[timedelta, datetime | None]:
    """How long events have come without moving the frontier, and where it stands; of commits, the newest first."""
    frontiers: list[int | None] = []
    arrivals: list[int] = []
    for commit in commits:
        if commit.frontier is None:
            continue
        frontiers.append(commit.frontier_micros)
        if frontiers[-1] != frontiers[0]:
            break
        # Where records have no type, their number alone says that there were some.
        if commit.arrival_micros is not None and (commit.rows or any((commit.rows_by_type or {}).values())):
            arrivals.append(commit.arrival_micros)
    stood = timedelta(microseconds=arrivals[0] - arrivals[-1] if arrivals else 0)
    at = frontiers[0] if frontiers else None
    return stood, None if at is None else datetime.fromtimestamp(at / 1e6, UTC)


def _build_check(stream: KafkaStream, limits: EventTimeLimits) -> dg.AssetChecksDefinition:
    def look(connection: "duckdb.DuckDBPyConnection", events: "DeltaTable") -> dg.AssetCheckResult:
        clocks = read_clocks(connection, events, stream.main_table, datetime.now(UTC))
        commits = (CommitInfo.parse(commit.get("userMetadata")) for commit in events.history(_COMMITS_SEARCHED))
        stood, frontier = find_standstill(commit for commit in commits if commit is not None)
        return judge(clocks, stood, frontier, limits, datetime.now(UTC))

    return build_duckdb_check(
        stream.main_table, "event_time",
        "Clocks and zones of the events that came within the hour: how far they lead or lag, by partition, and whether "
        "time goes on.",
        look, "There is no event yet.",
    )  # fmt: skip


def judge(
    clocks: Sequence[Clocks], stood: timedelta, frontier: datetime | None, limits: EventTimeLimits, now: datetime
) -> dg.AssetCheckResult:
    """The verdict, with what to do."""
    warn, fail = limits.ahead_share
    worst = max((clock.far_ahead for clock in clocks), default=0.0)
    stands = stood > limits.standstill
    ahead = timedelta(0) if frontier is None else frontier - now
    is_ahead = ahead > _AHEAD
    said = "; ".join(map(str, clocks)) or "no event arrived within the last hour"
    advice = ""
    if worst > warn:
        advice += (
            " Where most senders are ahead, time follows the time of sending instead. Set the senders' clocks, or "
            "HEADRACE_TOPIC_TIME_ZONE when their times have no offset."
        )
    if stands:
        where = "has not begun" if frontier is None else f"stands at {frontier:%Y-%m-%d %H:%M:%S} UTC"
        advice += (
            f" Events have come for {stood} while time {where}: nothing becomes final. Compare the events' times with "
            "the clock, and with what a silence has closed."
        )
    if is_ahead:
        advice += (
            f" The time of the events is {frontier:%Y-%m-%d %H:%M:%S} UTC, {ahead} ahead of this clock: a host's clock "
            "was ahead when a silence closed windows, or is behind now. What comes until then is late, and repaired. "
            "Set the clocks; headrace reset-time sets the events' time back."
        )
    is_error = stands or is_ahead or worst > fail
    anonymous, events = sum(clock.anonymous for clock in clocks), sum(clock.events for clock in clocks)
    return dg.AssetCheckResult(
        passed=not is_error and worst <= warn,
        severity=dg.AssetCheckSeverity.ERROR if is_error else dg.AssetCheckSeverity.WARN,
        description=f"{said[0].upper()}{said[1:]}.{advice}",
        metadata={
            "events": events,
            "anonymous_events": anonymous,
            "seconds_without_progress": stood.total_seconds(),
            "partitions": dg.MetadataValue.md("\n".join(f"- {clock}" for clock in clocks) or "none"),
        },
    )


def _after(seconds: float) -> str:
    return f"{abs(seconds):,.1f} s {'after' if seconds >= 0 else 'before'}"
