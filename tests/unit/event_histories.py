"""Random histories of a shop's records, and what must have become of them: by SQL over the list of all of them.

A history is what reached Kafka (clocks that are wrong, zones, placeholders, records sent again, transaction markers),
how it was cut into batches, silences with their marks, and where the process died. The rules are written here once
more, as relations over all records at once, by another engine: nothing is kept between batches.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pyarrow as pa
from hypothesis import strategies as st

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
# In June no zone sets its clocks.
BEGIN = int(datetime(2026, 6, 10, 9, tzinfo=UTC).timestamp()) * SECOND
HORIZON = 10 * MINUTE
PARTITIONS = 3
MAX_OFFSETS = 12
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

ZONES = ["UTC", "Europe/Berlin", "Asia/Kolkata", "America/New_York"]
# How much later than it was sent an event is dated.
LEADS = [0, 0, 0, -SECOND, 30 * SECOND, 5 * MINUTE, 5 * MINUTE + 1, 2 * HOUR, 9 * HOUR, -9 * MINUTE, -HOUR, -5 * HOUR]
USERS = ["u1", "u2", "u3", "u4", "u5", "guest", " Anonymous", "NULL", "guest-7"]
NO_IDS = ["", " ", "null", "NaN", "\\N", "0", "00000000-0000-0000-0000-000000000000"]
PAUSES = [0, SECOND, MINUTE, 6 * MINUTE, 11 * MINUTE, 3 * HOUR]


@dataclass(frozen=True)
class Record:
    """One Kafka record; times in microseconds. `wall` is its timestamp as it was written."""

    partition: int
    offset: int
    sent: int
    event_id: str
    user_id: str
    wall: str
    price: float

    def value(self) -> bytes:
        body = {"event_id": self.event_id, "event_type": "purchase", "timestamp": self.wall, "user_id": self.user_id}
        return json.dumps(body | {"price": self.price}).encode()


@dataclass(frozen=True)
class Step:
    """A batch, or with `mark` a moment at which nothing was unread. `ranges` are (partition, from, until).

    `dies_at`: the process dies before this commit of the batch and of its next run, and so on; `restarts`: it is
    stopped in good order afterwards. `runs_twice`: the batch had been committed, and nobody had written that down.
    `portion`: how many of its records are in memory at a time.
    """

    arrival: int
    records: tuple[Record, ...] = ()
    ranges: tuple[tuple[int, int, int], ...] = ()
    mark: int | None = None
    dies_at: tuple[int, ...] = ()
    restarts: bool = False
    runs_twice: bool = False
    portion: int = 1000


@dataclass(frozen=True)
class History:
    """`zone` is that of timestamps without an offset."""

    zone: str
    steps: tuple[Step, ...]


_again = st.tuples(st.integers(0, 30), st.sampled_from(["same", "same", "same", "price", "time"]))
_record = st.tuples(
    st.integers(0, PARTITIONS - 1), st.sampled_from(LEADS), st.sampled_from(USERS), st.booleans(),
    st.sampled_from([0, 0, 0, SECOND, -2 * SECOND, None]), st.none() | st.none() | _again,
    st.none() | st.none() | st.none() | st.sampled_from(NO_IDS),
)  # fmt: skip
_batch = st.tuples(
    st.lists(_record, max_size=9), st.lists(st.integers(0, 4), min_size=PARTITIONS, max_size=PARTITIONS),
    st.sampled_from([(), (), (), (0,), (1,), (2, 0)]), st.booleans(), st.booleans(),
    st.sampled_from([1000, 1, 3]),
)  # fmt: skip


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Up to ten steps, each after a pause."""
    zone, now, steps = draw(st.sampled_from(ZONES)), BEGIN, []
    next_offsets, sent = [0] * PARTITIONS, list[Record]()
    # Often most senders have one clock: what is the rule moves time.
    usual = draw(st.sampled_from([None, 0, 2 * HOUR, -HOUR, -5 * HOUR]))
    for pause, content in draw(st.lists(st.tuples(st.sampled_from(PAUSES), st.none() | _batch), max_size=10)):
        now += pause
        if content is None:
            steps.append(Step(now, mark=now, restarts=draw(st.booleans())))
            continue
        drawn, markers, dies_at, restarts, runs_twice, portion = content
        records, begins = [], list(next_offsets)
        for partition, lead, user, is_naive, clock, again, no_id in drawn:
            now += SECOND
            record = _build(partition, next_offsets[partition], now, lead if usual is None else usual, user, len(sent))
            if is_naive:
                record = _without_offset(record, zone)
            if no_id is not None:
                record = _change(record, event_id=no_id)
            if again is not None and sent:
                record = _send_again(sent[again[0] % len(sent)], record, again[1])
            # Nobody set it: Kafka says -1 millisecond then.
            record = _change(record, sent=-1000 if clock is None else now + clock)
            next_offsets[partition] += 1
            sent.append(record)
            records.append(record)
        for partition, count in enumerate(markers):
            next_offsets[partition] += count if count > 2 else 0
        ranges = tuple((p, begins[p], next_offsets[p]) for p in range(PARTITIONS))
        now += SECOND
        steps.append(Step(now, tuple(records), ranges, None, dies_at, restarts, runs_twice, portion))
    return History(zone, tuple(steps))


def _build(partition: int, offset: int, now: int, lead: int, user: str, number: int) -> Record:
    wall = (EPOCH + timedelta(microseconds=now + lead)).isoformat()
    return Record(partition, offset, now, f"e{number}", user, wall, float(number))


def _change(record: Record, **fields: Any) -> Record:
    return Record(**{**vars(record), **fields})


def _without_offset(record: Record, zone: str) -> Record:
    local = datetime.fromisoformat(record.wall).astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    return _change(record, wall=local.isoformat())


def _send_again(first: Record, own: Record, how: str) -> Record:
    again = _change(own, event_id=first.event_id, user_id=first.user_id, wall=first.wall, price=first.price)
    if how == "price":
        return _change(again, price=first.price + 0.5)
    if how == "time":
        moment = datetime.fromisoformat(first.wall)
        return _change(again, wall=(moment + timedelta(seconds=1)).isoformat())
    return again


class Oracle:
    """What must be in the tables after all of a history's steps, and where its frontier must be after each."""

    def __init__(self, history: History) -> None:
        self._sql = duckdb.connect(config={"threads": 1})
        self._sql.execute("SET TimeZone = 'UTC'")
        self._register(history)
        self._sql.execute(_SOUND.format(zone=history.zone))
        self._sql.execute("CREATE TABLE accepted AS SELECT * FROM sound WHERE false")
        for (step,) in self._sql.sql("SELECT step FROM steps WHERE mark IS NULL ORDER BY step").fetchall():
            self._sql.execute(_ACCEPT, {"step": step, "horizon": HORIZON})
        self._sql.execute(_FACTS)

    def close(self) -> None:
        self._sql.close()

    def quarantined(self) -> list[tuple[int, int]]:
        return self._fetch("SELECT kafka_partition, kafka_offset FROM records WHERE NOT is_id ORDER BY ALL")

    def accepted(self) -> list[tuple[Any, ...]]:
        """Partition, offset, event time in microseconds, whether the user is anonymous."""
        return self._fetch("SELECT kafka_partition, kafka_offset, event, is_anonymous FROM accepted ORDER BY ALL")

    def repeated(self) -> list[tuple[Any, ...]]:
        """Partition, offset, and what it may have been kept as: places with whether they say the same."""
        return self._fetch(_REPEATED, horizon=HORIZON)

    def frontiers(self) -> list[int | None]:
        """The frontiers after each step, in microseconds."""
        return [frontier for _, frontier in self._fetch(_WALK)]

    def _fetch(self, sql: str, **params: Any) -> list[tuple[Any, ...]]:
        return self._sql.execute(sql, params or None).fetchall()

    def _register(self, history: History) -> None:
        records = [
            {
                "step": number, "arrival": step.arrival, "kafka_partition": r.partition, "kafka_offset": r.offset,
                "sent": r.sent, "event_id": r.event_id, "user_id": r.user_id, "wall": r.wall, "price": r.price,
            }
            for number, step in enumerate(history.steps)
            for r in step.records
        ]  # fmt: skip
        steps = [{"step": n, "arrival": step.arrival, "mark": step.mark} for n, step in enumerate(history.steps)]
        ranges = [
            {"step": n, "kafka_partition": p, "length": until - begin}
            for n, step in enumerate(history.steps)
            for p, begin, until in step.ranges
        ]
        relations = {"sent_records": (records, _RECORDS), "steps": (steps, _STEPS), "ranges": (ranges, _RANGES)}
        for name, (rows, schema) in relations.items():
            self._sql.register(f"{name}_rows", pa.Table.from_pylist(rows, schema))
            self._sql.execute(f"CREATE TABLE {name} AS SELECT * FROM {name}_rows")


def _of(**columns: pa.DataType) -> pa.Schema:
    return pa.schema(list(columns.items()))


_RECORDS = _of(
    step=pa.int64(), arrival=pa.int64(), kafka_partition=pa.int64(), kafka_offset=pa.int64(), sent=pa.int64(),
    event_id=pa.string(), user_id=pa.string(), wall=pa.string(), price=pa.float64(),
)  # fmt: skip
_STEPS = _of(step=pa.int64(), arrival=pa.int64(), mark=pa.int64())
_RANGES = _of(step=pa.int64(), kafka_partition=pa.int64(), length=pa.int64())

_NO_ID = "('', 'null', 'undefined', 'none', 'nan', 'nil', '\\n', '0', '00000000-0000-0000-0000-000000000000')"
_NOBODY = "('guest', 'anonymous', 'anon', 'unknown', '(not set)')"

# Event times in UTC, who is nobody, and what is no id.
_SOUND = f"""
    CREATE TABLE records AS
    SELECT *, lower(trim(event_id)) NOT IN {_NO_ID} AS is_id,
           lower(trim(user_id)) IN {_NO_ID} OR lower(trim(user_id)) IN {_NOBODY} AS is_anonymous,
           epoch_us(CASE WHEN wall SIMILAR TO '.*[+-]\\d\\d:\\d\\d' THEN wall::TIMESTAMPTZ
                         ELSE wall::TIMESTAMP AT TIME ZONE '{{zone}}' END) AS event
    FROM sent_records;
    CREATE TABLE sound AS SELECT * FROM records WHERE is_id
"""

# An event is a repeat of one that was accepted within the horizon, or of an older one that has its time. Of those of a
# batch that repeat nothing the first one by its place is accepted.
_KNOWN = """
    FROM accepted a WHERE a.step < s.step AND a.event_id = s.event_id
      AND (a.arrival > s.arrival - $horizon
           OR (a.event = s.event AND s.event < s.arrival - $horizon + 300_000_000))
"""
_ACCEPT = f"""
    INSERT INTO accepted
    SELECT * FROM sound s WHERE s.step = $step AND NOT EXISTS (SELECT 1 {_KNOWN})
    QUALIFY row_number() OVER (PARTITION BY event_id ORDER BY kafka_partition, kafka_offset) = 1
"""
_REPEATED = """
    SELECT s.kafka_partition, s.kafka_offset,
      (SELECT list((a.kafka_partition, a.kafka_offset, (a.price, a.event, a.user_id) = (s.price, s.event, s.user_id)))
       FROM accepted a
       WHERE a.event_id = s.event_id AND (a.step = s.step OR EXISTS (
         SELECT 1 FROM accepted k WHERE (k.kafka_partition, k.kafka_offset) = (a.kafka_partition, a.kafka_offset)
           AND k.step < s.step AND (k.arrival > s.arrival - $horizon
             OR (k.event = s.event AND s.event < s.arrival - $horizon + 300_000_000)))))
    FROM sound s ANTI JOIN accepted USING (kafka_partition, kafka_offset) ORDER BY ALL
"""

# What each step's accepted events say of clocks, and how far each partition has come by then.
_FACTS = """
    CREATE TABLE judged AS
    SELECT *, event - at_most AS lead
    FROM (SELECT *, least(arrival, if(sent < event - 86_400_000_000, arrival, sent)) AS at_most FROM accepted);

    CREATE TABLE clocks AS
    SELECT s.step, p.kafka_partition,
           (SELECT count(DISTINCT (step, user_id)) FILTER (lead > 300_000_000) FROM judged j
            WHERE j.kafka_partition = p.kafka_partition AND j.step <= s.step) AS ahead,
           (SELECT count(DISTINCT (step, user_id)) FROM judged j
            WHERE j.kafka_partition = p.kafka_partition AND j.step <= s.step) AS senders
    FROM steps s, (SELECT DISTINCT kafka_partition FROM ranges) p;

    CREATE TABLE counted AS
    SELECT j.step, j.kafka_partition, least(j.event, j.at_most) AS time
    FROM judged j JOIN clocks c USING (step, kafka_partition)
    WHERE j.lead <= 300_000_000 OR (c.senders >= 2 AND 2 * c.ahead > c.senders);

    CREATE TABLE reached AS
    SELECT s.step, r.kafka_partition,
           (SELECT max(time) FROM counted c WHERE c.kafka_partition = r.kafka_partition AND c.step <= s.step) AS until,
           r.length > 0 AND (SELECT sum(length) FROM ranges o WHERE o.step = s.step) > 12 - 3 AS is_unread
    FROM steps s JOIN ranges r USING (step);

    CREATE TABLE facts AS
    SELECT s.step, s.mark, r.candidate, j.*,
           (SELECT 2 * count(*) FILTER (lead < -300_000_000) > count(*) FROM judged WHERE step <= s.step) AS is_late
    FROM steps s
    LEFT JOIN (
      SELECT step, if(bool_or(is_unread),
                      if(bool_or(is_unread AND until IS NULL), NULL, min(until) FILTER (is_unread)),
                      max(until)) AS candidate
      FROM reached GROUP BY step) r USING (step)
    LEFT JOIN (
      SELECT step AS of_step, min(at_most) AS first_sent, max(at_most) AS last_sent, max(event) AS latest,
             greatest(0, -trunc(quantile_cont(lead, 0.05)))::BIGINT AS own_delay
      FROM judged GROUP BY step) j ON j.of_step = s.step
"""

# The frontier never goes back, a mark brings it to its moment without the usual delay, and that delay is that of a shop
# whose events come late as the rule for five minutes at least, and do not run ahead of the clock as a backlog does.
_WALK = """
    WITH RECURSIVE walk AS (
      SELECT -1::BIGINT AS step, NULL::BIGINT AS frontier, NULL::BIGINT AS since, NULL::BIGINT AS until,
             NULL::BIGINT AS latest_then, NULL::BIGINT AS latest_now, 0::BIGINT AS delay, false AS has_events
      UNION ALL
      SELECT f.step,
        CASE WHEN f.mark IS NULL THEN greatest(w.frontier, f.candidate)
             WHEN NOT w.has_events THEN w.frontier
             WHEN w.until - w.since >= 300_000_000 AND w.latest_now - w.latest_then <= 2 * (w.until - w.since)
               THEN greatest(w.frontier, f.mark - w.delay)
             ELSE greatest(w.frontier, f.mark) END,
        CASE WHEN f.latest IS NULL THEN w.since WHEN f.is_late THEN coalesce(w.since, f.first_sent) END,
        CASE WHEN f.latest IS NULL THEN w.until WHEN f.is_late THEN greatest(w.until, f.last_sent) END,
        CASE WHEN f.latest IS NULL THEN w.latest_then WHEN f.is_late THEN coalesce(w.latest_then, f.latest) END,
        CASE WHEN f.latest IS NULL THEN w.latest_now WHEN f.is_late THEN greatest(w.latest_now, f.latest) END,
        CASE WHEN f.latest IS NULL THEN w.delay WHEN f.is_late THEN greatest(f.own_delay, w.delay - w.delay // 64)
             ELSE 0 END,
        w.has_events OR f.latest IS NOT NULL
      FROM walk w JOIN facts f ON f.step = w.step + 1
    )
    SELECT step, frontier FROM walk WHERE step >= 0 ORDER BY step
"""


def as_kafka_batch(records: Sequence[Record]) -> pa.RecordBatch:
    """The records as Spark hands them to the parser."""
    columns = {
        "key": pa.array([None] * len(records), pa.binary()),
        "value": pa.array([record.value() for record in records], pa.binary()),
        "partition": pa.array([record.partition for record in records], pa.int32()),
        "offset": pa.array([record.offset for record in records], pa.int64()),
        "timestamp": pa.array([record.sent for record in records], pa.int64()).cast(pa.timestamp("us", tz="UTC")),
    }
    return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
