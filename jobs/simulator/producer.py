"""Sends records to Kafka: paced by deadlines, nothing lost silently, stopped cleanly."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from confluent_kafka import KafkaError, KafkaException

from jobs.simulator.simulated_topic import CompanionRecord, Record
from jobs.simulator.transactions import Transactions, is_fenced
from platform_assets.errors import BrokerUnavailableError
from platform_assets.kafka_errors import find_refusal

if TYPE_CHECKING:
    from confluent_kafka import Producer

# For `KafkaResource.producer`, besides its acks=all, idempotence and compression. Java clients place a key by murmur2:
# with librdkafka's own default a user's events of two producers would lie in two partitions, out of order. Delivery
# reports of successes would cost more than the sending; failures are all that we must hear of.
PRODUCER_OPTIONS: dict[str, Any] = {
    "partitioner": "murmur2_random",
    "delivery_report_only_error": True,
    "delivery_timeout_ms": 120_000,
}

# Between two looks at the clock, the stop event and librdkafka's callbacks: less than 5 ms of work at full speed.
_RECORDS_PER_LOOK = 1000
# The longest wait for a deadline before the stop event and the progress are looked at again.
_LONGEST_WAIT_SECONDS = 0.1
_PROGRESS_SECONDS = 0.2
# Records that succeed are not reported, and end no wait: each transaction's end may last so much longer.
_FLUSH_WAIT_SECONDS = 0.01
# Of a transaction that may be aborted: its records are kept, to be sent again, and must not fill the memory.
_MOST_KEPT = 50_000
# A shorter wait is not reported on the terminal.
_UNSAID_WAIT_SECONDS = 10.0
# After a stop, a broker that still answers needs well under a second for what is in the queue; one that does not answer
# must not hold up a shutdown, which has 90 s in all.
_FLUSH_AFTER_STOP_SECONDS = 30.0
# Errors that concern one record; after any other the rest would fail as well.
_RECORD_ERRORS = (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG_SIZE, KafkaError.INVALID_MSG)

# When a record leaves: as fast as possible (None), when the wall clock reads its send time, or with time running so
# many times as fast as the wall clock, beginning with the first record.
Pace = float | Literal["wall_clock"] | None
# (sent, acknowledged, seconds since the start).
OnProgress = Callable[[int, int, float], None]
# (seconds until the record that the source has just given leaves).
OnWait = Callable[[float], None]

_ADVICE = "Check that the broker runs and takes records of this size, then send again."
_CLOCK_ADVICE = (
    "The broker refuses the whole batch for the times of its records: most likely this host's clock is ahead of the "
    "broker's by more than the topic's message.timestamp.after.max.ms, an hour by default. Set this host's clock "
    "right, then send again."
)
_FENCED_ADVICE = (
    "Another sender has begun transactions for this topic, and Kafka lets one write: end one of the two, or send "
    "without --transactional."
)
# A refused time has the first code only where the batch holds one record; the others do not say why, but each of our
# records has a key, and no other reason is left.
_CLOCK_ERRORS = (KafkaError.INVALID_TIMESTAMP, KafkaError.INVALID_RECORD, KafkaError._INVALID_DIFFERENT_RECORD)


@dataclass(frozen=True)
class SendReport:
    """What became of the records: `sent` were taken from the source, `acknowledged` are on all in-sync replicas.

    `sent` = `acknowledged` + `failed`; records of a transaction are acknowledged when it is committed. `stopped`: ended
    by the stop event and not by the source's end. `error` is the first failure, one sentence, or empty; `advice` is
    what to do about it. `aborted` records were sent in a transaction that was aborted on purpose, and then once more.
    """

    sent: int
    acknowledged: int
    failed: int
    seconds: float
    stopped: bool
    error: str
    advice: str = _ADVICE
    aborted: int = 0

    @property
    def rate(self) -> float:
        """Acknowledged records a second."""
        return self.acknowledged / self.seconds if self.seconds else 0.0

    def raise_if_failed(self) -> None:
        """Raises `BrokerUnavailableError` when a record was not acknowledged."""
        if self.failed:
            raise BrokerUnavailableError(
                f"{self.failed:,} of {self.sent:,} records were not acknowledged by Kafka ({self.error}). {self.advice}"
            )


def send_records(
    records: Iterable[Record],
    producer: Producer,
    topic: str,
    *,
    pace: Pace = None,
    stop: threading.Event | None = None,
    on_progress: OnProgress | None = None,
    on_wait: OnWait | None = None,
    is_transactional: bool = False,
    aborted_share: float = 0.0,
) -> SendReport:
    """Sends every record to `topic` or its own, flushes, and reports. Blocks; call it from one thread.

    A record whose time has come leaves at once, one that is early waits for it (see `Pace`). `stop` ends it after the
    record in hand, so that the source's own count of what it handed out is what was sent. `on_progress(sent,
    acknowledged, seconds)` is called a few times a second, from here; `on_wait(seconds)` once before a
    wait of more than ten seconds. `is_transactional`: in transactions of a second; the producer has a transactional id.
    The first that Kafka does not commit ends the sending. Such a share of them is aborted, and its records are sent
    again in the next one.

    Nothing is raised for failed records: they are counted, and `SendReport.raise_if_failed` tells. What the source
    raises is passed on after a flush. Where Kafka begins no transaction at all, `BrokerUnavailableError` is raised.
    """
    sending = _Sending(producer, topic, stop or threading.Event(), on_progress, on_wait, aborted_share)
    return sending.run(records, pace, is_transactional=is_transactional)


class _Sending:
    def __init__(
        self,
        producer: Producer,
        topic: str,
        stop: threading.Event,
        on_progress: OnProgress | None,
        on_wait: OnWait | None,
        aborted_share: float,
    ) -> None:
        self._producer, self._topic, self._stop = producer, topic, stop
        self._on_progress, self._on_wait = on_progress, on_wait
        self._sent = self._failed = 0
        self._error, self._advice = "", _ADVICE
        self._broken = self._ended = False
        self._transactions: Transactions | None = None
        self._settled = (0, 0)
        self._aborted_share, self._aborted = aborted_share, 0
        self._kept: list[tuple[str, bytes, bytes | None]] = []
        self._begun = self._next_progress = time.perf_counter()

    def run(self, records: Iterable[Record], pace: Pace, *, is_transactional: bool) -> SendReport:
        if is_transactional:
            self._transactions = Transactions(self._producer, self._stop)
            self._transactions.open()
        try:
            self._send_all(records, pace)
        finally:
            self._flush()
            self._abort_some()
            self._end_transaction()
        seconds = time.perf_counter() - self._begun
        if self._on_progress is not None:
            self._on_progress(self._sent, self._sent - self._failed, seconds)
        stopped = self._stop.is_set()
        acknowledged = self._sent - self._failed
        return SendReport(
            self._sent, acknowledged, self._failed, seconds, stopped, self._error, self._advice, self._aborted
        )

    def _send_all(self, records: Iterable[Record], pace: Pace) -> None:
        produce, own_topic, failed = self._producer.produce, self._topic, self._on_failure
        keep = self._kept.append if self._aborted_share else None
        speed = 1.0 if pace == "wall_clock" else pace
        begun, first, due = time.perf_counter(), None, -1.0
        since_look = 0
        for record in records:
            sent_at, key, value = record
            topic = own_topic if type(record) is tuple else self._find_topic(record)
            if speed is not None and sent_at > due:
                if first is None:
                    first = time.time_ns() / 1000 if pace == "wall_clock" else sent_at
                    begun = time.perf_counter()
                due = first + (time.perf_counter() - begun) * speed * 1e6
                self._say_wait((sent_at - due) / 1e6 / speed)
                while sent_at > due and not self._stop.is_set() and not self._broken:
                    self._look()
                    self._end_transaction_in_time()
                    self._stop.wait(min((sent_at - due) / 1e6 / speed, _LONGEST_WAIT_SECONDS))
                    due = first + (time.perf_counter() - begun) * speed * 1e6
            self._sent += 1
            if keep is not None:
                keep((topic, key, value))
            try:
                produce(topic, value, key, on_delivery=failed)
            except BufferError:
                self._produce_when_there_is_room(topic, key, value)
            except KafkaException as error:
                self._on_failure(error.args[0], None)
            since_look += 1
            if since_look >= _RECORDS_PER_LOOK:
                since_look = 0
                self._look()
                self._end_transaction_in_time()
            if self._broken or self._stop.is_set():
                return

    def _find_topic(self, record: Record) -> str:
        return record.topic if isinstance(record, CompanionRecord) else self._topic

    def _say_wait(self, seconds: float) -> None:
        if self._on_wait is not None and seconds > _UNSAID_WAIT_SECONDS:
            self._on_wait(seconds)

    def _look(self) -> None:
        self._hear(0)
        now = time.perf_counter()
        if self._on_progress is not None and now >= self._next_progress:
            self._next_progress = now + _PROGRESS_SECONDS
            acknowledged = max(0, self._sent - self._failed - len(self._producer))
            if self._transactions is not None:
                acknowledged = self._settled[0] - self._settled[1]
            self._on_progress(self._sent, acknowledged, now - self._begun)

    def _produce_when_there_is_room(self, topic: str, key: bytes, value: bytes | None) -> None:
        limit: float | None = None
        while True:
            try:
                self._producer.produce(topic, value, key, on_delivery=self._on_failure)
                return
            except KafkaException as error:
                self._on_failure(error.args[0], None)
                return
            except BufferError:
                self._hear(0.05)
                self._look()
                if self._broken:
                    self._fail("the broker does not answer")
                    return
                if self._stop.is_set():
                    limit = limit or time.perf_counter() + _FLUSH_AFTER_STOP_SECONDS
                    if time.perf_counter() > limit:
                        self._fail("the broker does not answer")
                        return

    def _flush(self) -> None:
        limit: float | None = None
        while len(self._producer):
            self._hear(_FLUSH_WAIT_SECONDS)
            self._look()
            if self._stop.is_set() or self._broken:
                limit = limit or time.perf_counter() + _FLUSH_AFTER_STOP_SECONDS
                if self._ended or time.perf_counter() > limit:
                    # Each purged record is reported to `_on_failure`, by the next calls.
                    self._producer.purge()

    def _hear(self, seconds: float) -> None:
        """Hears for so long what became of records, or that the producer has ended for good.

        See `librdkafka.flush` for why this is no call of `Producer.flush`.
        """
        try:
            self._producer.poll(seconds)
        except KafkaException as error:
            self._learn(error.args[0])
            self._broken = self._ended = True

    def _end_transaction_in_time(self) -> None:
        if self._transactions is None or self._broken:
            return
        if self._transactions.is_due or len(self._kept) >= _MOST_KEPT:
            self._flush()
            self._abort_some()
            self._end_transaction()
            if self._transactions is not None:
                self._begin_transaction(self._transactions)

    def _abort_some(self) -> None:
        """Aborts the transaction by its chance, and sends its records in a new one. They have been flushed."""
        transactions, is_stopped = self._transactions, self._stop.is_set()
        if transactions is None or self._failed or self._broken or is_stopped:
            return
        if random.random() >= self._aborted_share:
            return
        error = transactions.abort()
        if error is not None:
            self._learn(error)
            self._broken = True
            return
        self._begin_transaction(transactions)
        for topic, key, value in self._kept:
            self._produce_when_there_is_room(topic, key, value)
        self._aborted += len(self._kept)
        self._flush()

    def _begin_transaction(self, transactions: Transactions) -> None:
        try:
            transactions.begin()
        except KafkaException as error:  # a newer sender: the next record is refused, and ends the sending
            self._learn(error.args[0])

    def _end_transaction(self) -> None:
        """Ends the transaction, if there is one; its records have been flushed. Of one that is aborted all failed."""
        sent, failed = self._settled
        if self._transactions is None:
            return
        error = self._transactions.end(gives_up=self._broken)
        if error is not None:
            self._learn(error)
            self._failed, self._broken, self._transactions = failed + self._sent - sent, True, None
        self._settled = self._sent, self._failed
        self._kept.clear()

    def _on_failure(self, error: KafkaError | None, _message: object) -> None:
        # librdkafka may call this for a success as well, with None.
        if error is not None:
            self._learn(error)
            self._failed += 1
            self._broken = self._broken or error.code() not in _RECORD_ERRORS

    def _learn(self, error: KafkaError) -> None:
        """Keeps the first error's words, and the advice that follows from any."""
        if error.code() in _CLOCK_ERRORS:
            self._advice = _CLOCK_ADVICE
        if is_fenced(error):
            self._advice = _FENCED_ADVICE
        if (refused := find_refusal(str(error), "Write", f"topic {self._topic}", "the simulator")) is not None:
            self._advice = str(refused)
        self._error = self._error or error.str()

    def _fail(self, text: str) -> None:
        self._failed += 1
        self._error = self._error or text
