"""Kafka's transactions of a sender: readers of what is committed see all records of one, or none."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError, KafkaException

from platform_assets.errors import BrokerUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from confluent_kafka import Producer

# Readers of what is committed see a record so much later, and a sender that dies loses as much at most.
_SECONDS = 1.0
# One call is not longer than this, so that a stop is heard.
_CALL_SECONDS = 1.0
# A coordinator that does not answer for so long is away. After a stop the shutdown must not be held up.
_PATIENCE_SECONDS = 60.0
_PATIENCE_AFTER_STOP_SECONDS = 15.0
# Kafka says so in several ways, by the request on which the older sender hears of it.
_FENCED = (KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH)


def transactional_options(topic: str) -> dict[str, Any]:
    """Options for `KafkaResource.producer`: one sender a topic, whose next start ends what a dead one has begun."""
    # Behind a transaction whose sender died nobody reads on, until the next start or this time: Kafka's default.
    limits = {"transaction_timeout_ms": 60_000, "delivery_timeout_ms": 60_000}
    return {"transactional_id": f"headrace-simulate-{topic}", **limits}


class Transactions:
    """The transactions of one producer, one after the other. Call it from the thread that sends."""

    def __init__(self, producer: Producer, stop: threading.Event) -> None:
        self._producer, self._stop = producer, stop
        self._ends = 0.0

    @property
    def is_due(self) -> bool:
        """Whether the open transaction has been open for long enough."""
        return time.monotonic() >= self._ends

    def open(self) -> None:
        """Has Kafka abort what an earlier sender of this id has left open, and refuse it from now on; begins.

        Raises `BrokerUnavailableError` where Kafka does not take transactions of this account, or does not answer.
        """
        try:
            self._insist(self._producer.init_transactions)
        except KafkaException as error:
            raise BrokerUnavailableError(
                f"Kafka begins no transaction ({error.args[0].str()}). Check that the broker runs, and that this "
                "account may write with a transactional id, or send without --transactional."
            ) from None
        self.begin()

    def begin(self) -> None:
        """Begins the next transaction. Kafka hears of it with its first record."""
        self._producer.begin_transaction()
        self._ends = time.monotonic() + _SECONDS

    def end(self, *, gives_up: bool) -> KafkaError | None:
        """Commits, or aborts where it `gives_up` or Kafka wants it so. The producer has no record in hand.

        Returns why it is not known to be committed; there is no transaction then, and none can be begun.
        """
        if not gives_up:
            try:
                self._insist(self._producer.commit_transaction)
                return None
            except KafkaException as error:
                failure: KafkaError = error.args[0]
                if not failure.txn_requires_abort():
                    return failure  # of another sender's, or unknown
        else:
            failure = KafkaError(KafkaError._PURGE_QUEUE, "the transaction was aborted")
        unended = self.abort()
        return unended if unended is not None and failure.code() == KafkaError._PURGE_QUEUE else failure

    def abort(self) -> KafkaError | None:
        """Aborts; returns why it could not, and there is no transaction then."""
        try:
            self._insist(self._producer.abort_transaction)
        except KafkaException as error:
            failure: KafkaError = error.args[0]
            return failure
        return None

    def _insist(self, call: Callable[[float], None]) -> None:
        begun = time.monotonic()
        while True:
            try:
                call(_CALL_SECONDS)
                return
            except KafkaException as error:
                patience = _PATIENCE_AFTER_STOP_SECONDS if self._stop.is_set() else _PATIENCE_SECONDS
                if not error.args[0].retriable() or time.monotonic() - begun > patience:
                    raise


def is_fenced(error: KafkaError) -> bool:
    """Whether Kafka refuses this sender because another one of its id has begun."""
    return error.code() in _FENCED
