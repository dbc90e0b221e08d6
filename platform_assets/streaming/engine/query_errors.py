"""Maps Spark's report of a dead query to one error that names the thing and says what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from platform_assets.errors import (
    BrokerRefusedError,
    BrokerUnavailableError,
    CheckpointMismatchError,
    HeadraceError,
    LostCommitsError,
    LostOffsetsError,
    MissingTopicError,
    QueryFailedError,
    RegistryRefusedError,
    RegistryUnavailableError,
    StorageError,
)
from platform_assets.kafka_errors import find_no_leader, find_refusal
from platform_assets.store_errors import find_store_error

if TYPE_CHECKING:
    from platform_assets.streaming.context import StreamContext

# The name of a class, of which some do not end in a word for an error (`pyarrow.lib.ArrowInvalid`).
_PYTHON_ERROR = re.compile(r"[\w.]*(Error|Exception): |[a-z_]\w*(\.\w+)*\.[A-Z]\w*: ")
# What Spark and py4j put around the error of a worker or a callback says nothing of it.
_WRAPPERS = ("thrown from the Python worker", "raised by the Python Proxy")
# What our own code in Spark's workers raises says already what is wrong, and what to do.
_OWN_ERRORS = {
    of.__name__: of
    for of in (
        BrokerRefusedError, BrokerUnavailableError, LostCommitsError, LostOffsetsError, MissingTopicError,
        RegistryRefusedError, RegistryUnavailableError,
    )
}  # fmt: skip
_OWN_ERROR = re.compile(rf"\b({'|'.join(_OWN_ERRORS)}): (.+)")
_REFUSED_TOPIC = re.compile(r"Not authorized to access topics: \[([^\]]+)\]")
# Spark repeats a cause with each layer; people read the first lines.
MAX_CAUSE_CHARS = 400


def classify_failure(query: str, text: str, context: StreamContext) -> HeadraceError:
    """The error for a query (or `start`) that failed with this text. Unknown causes are transient: retried, slowly."""
    lower = text.lower()
    if "no space left on device" in lower or "disk quota exceeded" in lower:
        return StorageError(
            f"No space is left under {context.lakehouse_root}: query {query} has stopped, nothing is lost. "
            "Free space or move HEADRACE_LAKEHOUSE; it goes on where it was."
        )
    if (refused := find_store_error(context.lakehouse_root, text)) is not None:
        return refused
    if "permission denied" in lower:
        return StorageError(
            f"{context.lakehouse_root} cannot be written: query {query} has stopped. Fix its permissions."
        )
    if "kafka_data_loss" in lower or "failondataloss" in lower or "offsetoutofrange" in lower:
        return LostOffsetsError(
            f"Kafka no longer holds offsets of {_find_topic(query, text, context)} that query {query} has not read: "
            f"{_cause(text)} Nothing is skipped without a decision: see headrace acknowledge-loss, which shows what is "
            "gone."
        )
    if (own := _OWN_ERROR.search(text)) is not None:
        return _OWN_ERRORS[own[1]](own[2].strip())
    topic = _find_topic(query, text, context)
    if "org.apache.kafka." in text:  # an object store speaks TLS too
        read, named = [ingest.topic for ingest in context.ingest.values()], _REFUSED_TOPIC.search(text)
        # A plan in the text names what is read, whichever topic is refused.
        is_read = named[1] in read if named else any(f"[{each}]" in text for each in read)
        operation = "Read" if is_read else "Write"
        if (refusal := find_refusal(text, operation, f"topic {topic}", f"query {query}")) is not None:
            return refusal
        if (waits := find_no_leader(text, f"topic {topic}")) is not None:
            return waits
    if "unknowntopicorpartition" in lower:
        return MissingTopicError(
            f"Topic {topic} is gone from the broker. Create it again, or name another: the shop's is HEADRACE_TOPIC, "
            "that of another topic is kafka_topic in its file."
        )
    if "streaming_stateful_operator_not_match" in lower or ("state_store_" in lower and "schema" in lower):
        return CheckpointMismatchError(
            f"The checkpoint of query {query} does not fit its code: {_cause(text)} "
            f"Run the code that made it, or have its table computed again: headrace recompute {query}"
        )
    if "timed out waiting for a node assignment" in lower or "timeoutexception" in lower:
        return BrokerUnavailableError(
            f"No Kafka broker answers query {query}. It goes on by itself when the broker is back: "
            "check KAFKA_BOOTSTRAP_SERVERS and the broker's log."
        )
    return QueryFailedError(f"Query {query} failed: {_cause(text)}")


def read_error(error: Exception) -> str:
    """What an error of Spark's says.

    Of a certificate that the Java client refuses only the last cause tells what is wrong, and pyspark shows no cause.
    """
    text = str(error)
    if "SSL handshake failed" not in text:
        return text
    traces = (getattr(each, "_stackTrace", None) for each in (error, getattr(error, "_cause", None)))
    return "\n".join([text, *filter(None, traces)])


@contextmanager
def classifying(query: str, context: StreamContext) -> Iterator[None]:
    """Raises `classify_failure`'s error for what Spark's jobs raise in the block, while the JVM can still be asked."""
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    try:
        yield
    except (Py4JError, PySparkException) as error:
        raise classify_failure(query, read_error(error), context) from error


def _find_topic(query: str, text: str, context: StreamContext) -> str:
    """The topic that the error names, else the one that the query reads, else those of the group."""
    read = [ingest.topic for ingest in context.ingest.values()]
    # The longest name first: one may be the beginning of another.
    named = sorted((topic for topic in {*context.publish_topics, *read} if topic in text), key=len)
    if named:
        return named[-1]
    return context.ingest[query].topic if query in context.ingest else ", ".join(read)


def _cause(text: str) -> str:
    """The most telling line of a Spark error, shortened."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("at ")]
    caused = [line for line in lines if line.startswith("Caused by:")]
    # What a Python worker or data source raised is the last line of its traceback.
    raised = [line for line in lines if _PYTHON_ERROR.match(line) and not any(text in line for text in _WRAPPERS)]
    return (caused + raised or lines[:1] or ["no message"])[-1][:MAX_CAUSE_CHARS]
