"""The check that says how long until Kafka deletes what a stream has not read yet.

Kafka deletes by time (`retention.ms`) and, where it is set, by size (`retention.bytes`). The edge of the first moves on
with the clock, that of the second with what is produced; a stream runs ahead of both at the pace at which it reads.
"""

# No postponed annotations in this file: Dagster reads those of assets and checks at definition time.
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from platform_assets.checks.freshness import judge_lost
from platform_assets.checks.read_position import read_position
from platform_assets.streaming.delta.commit_info import CommitInfo
from platform_assets.streaming.stream_spec import KafkaStream
from resources.kafka import KafkaResource
from resources.kafka_records import read_times
from resources.kafka_topics import is_compacted, read_retention, read_retention_bytes

TIME_TO_LOSS = "time_to_loss"
HOURS_TO_LOSS = "kafka/hours_to_loss"
"""In the verdict's metadata; absent where Kafka deletes nothing that is unread."""
WARN_BELOW = timedelta(hours=24)
ERROR_BELOW = timedelta(hours=4)
# Rates are those of the last quarter of an hour: a restart of a minute hardly shows, a stream that stands does.
RATE_WINDOW = timedelta(minutes=15)


@dataclass(frozen=True)
class Backlog:
    """What one stream has not read of one topic partition, and how it moves. Rates are records a second.

    `oldest_at`: when the oldest unread record was written. `held_before`: older records that Kafka still holds, None
    where size does not limit them, or has not yet.
    """

    oldest_at: datetime
    held_before: int | None
    read_rate: float
    produced_rate: float


def time_to_loss(backlog: Backlog, now: datetime, retention: timedelta | None) -> timedelta | None:
    """How long until Kafka deletes the oldest unread record at the present rates; None: it never comes to that."""
    found = []
    if retention is not None:
        left = (backlog.oldest_at + retention - now).total_seconds()
        # How many seconds of the log the stream reads in a second; a log that does not grow is only read to its end.
        pace = backlog.read_rate / backlog.produced_rate if backlog.produced_rate else min(backlog.read_rate, 1.0)
        found += [max(0.0, left) / (1 - pace)] if pace < 1 else []
    if backlog.held_before is not None and backlog.produced_rate > backlog.read_rate:
        found.append(max(0, backlog.held_before) / (backlog.produced_rate - backlog.read_rate))
    return timedelta(seconds=min(found)) if found else None


def find_backlogs(
    topic: str, kafka: KafkaResource, read_until: Mapping[int, int], read_rates: Mapping[int, float], now: datetime
) -> dict[int, Backlog]:
    """The backlog of each partition that has one. `read_until` is the next offset that the stream reads.

    With what waits behind an open transaction: Kafka deletes that as well.
    """
    ends, beginnings = kafka.end_offsets(topic), kafka.beginning_offsets(topic)
    positions = {p: max(read_until.get(p, 0), beginnings[p]) for p in ends}
    unread = {p: position for p, position in positions.items() if position < ends[p]}
    times = read_times(kafka, topic, unread)
    before = kafka.offsets_at(topic, now - RATE_WINDOW)
    by_size = read_retention_bytes(kafka, topic) is not None
    return {
        partition: Backlog(
            oldest_at,
            # A partition from which nothing was deleted yet has not reached its size.
            unread[partition] - beginnings[partition] if by_size and beginnings[partition] else None,
            read_rates.get(partition, 0.0),
            (ends[partition] - before[partition]) / RATE_WINDOW.total_seconds(),
        )
        for partition, oldest_at in times.items()
    }


def read_rates(events: Any, now: datetime) -> dict[int, float]:
    """Offsets a second that the stream has read in the last `RATE_WINDOW`, by partition, from its table's commits."""
    since, read = (now - RATE_WINDOW).timestamp() * 1000, dict[int, int]()
    for commit in events.history():
        if commit["timestamp"] < since:
            break
        info = CommitInfo.parse(commit.get("userMetadata"))
        for _topic, partition, start, until in (info.ranges if info is not None else None) or []:
            read[partition] = read.get(partition, 0) + until - start
    return {partition: count / RATE_WINDOW.total_seconds() for partition, count in read.items()}


def judge(left: Mapping[int, timedelta | None], topic: str) -> dg.AssetCheckResult:
    """The verdict over all partitions that have something unread."""
    bounded = {partition: time for partition, time in left.items() if time is not None}
    if not bounded:
        return dg.AssetCheckResult(
            passed=True, description="Kafka deletes nothing that is unread, at the present rates."
        )
    partition, soonest = min(bounded.items(), key=lambda item: item[1])
    hours = soonest.total_seconds() / 3600
    if soonest >= WARN_BELOW:
        return dg.AssetCheckResult(
            passed=True,
            description=f"Kafka deletes nothing that is unread in the next {hours:.0f} hours, at the present rates.",
            metadata={HOURS_TO_LOSS: hours},
        )
    return dg.AssetCheckResult(
        passed=False,
        severity=dg.AssetCheckSeverity.ERROR if soonest < ERROR_BELOW else dg.AssetCheckSeverity.WARN,
        description=(
            f"In {hours:.1f} hours Kafka deletes records of {topic}/{partition} that are not read yet, at the present "
            "rates. Start the stream, give it more cores, or raise the topic's retention."
        ),
        metadata={HOURS_TO_LOSS: hours},
    )


def warn_of_compaction(verdict: dg.AssetCheckResult, topic: str) -> dg.AssetCheckResult:
    """The verdict over a compacted topic: at best a warning, for what is removed before it is read is lost."""
    return verdict._replace(
        passed=False,
        severity=dg.AssetCheckSeverity.WARN if verdict.passed else verdict.severity,
        description=f"{verdict.description} Topic {topic} is compacted (cleanup.policy): Kafka removes records that a "
        "newer one of the same key replaces, unread ones too; the check ledger says how many that may be at most. "
        "Events need a topic that deletes only.",
    )


def build_time_to_loss_checks(
    streams: Iterable[KafkaStream], topics: Mapping[str, str]
) -> list[dg.AssetChecksDefinition]:
    """One check `time_to_loss` for each stream over Kafka, of what it reads; needs `lakehouse` and `kafka`."""
    return [_build_check(stream, topics[stream.name]) for stream in streams]


def _build_check(stream: KafkaStream, topic: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=list(stream.main_table.asset_path),
        name=TIME_TO_LOSS,
        description=f"Kafka deletes nothing unread of {topic} in {WARN_BELOW} (warning) or {ERROR_BELOW} (error).",
        required_resource_keys={"lakehouse", "kafka"},
    )
    def time_to_loss_check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        now, kafka, lakehouse = datetime.now(UTC), context.resources.kafka, context.resources.lakehouse
        events = lakehouse.find_table(stream.main_table.name)
        position = read_position(lakehouse, events, topic)
        if lost := position.find_lost(topic, kafka):
            return judge_lost(lost)
        rates = {} if events is None else read_rates(events, now)
        retention = read_retention(kafka, topic)
        backlogs = find_backlogs(topic, kafka, position.next_offsets, rates, now)
        verdict = judge({p: time_to_loss(backlog, now, retention) for p, backlog in backlogs.items()}, topic)
        return warn_of_compaction(verdict, topic) if is_compacted(kafka, topic) else verdict

    return time_to_loss_check
