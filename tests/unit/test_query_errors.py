"""Spark's and delta-rs's words about a failure become one error that says what to do, and whether to try again."""

from __future__ import annotations

import pytest

from platform_assets.errors import (
    BrokerRefusedError,
    BrokerUnavailableError,
    CheckpointMismatchError,
    LostOffsetsError,
    MissingTopicError,
    QueryFailedError,
    StorageError,
    TransientError,
)
from platform_assets.streaming.context import KafkaIngest, StreamContext
from platform_assets.streaming.engine.query_errors import classify_failure

CONTEXT = StreamContext(
    "/lake", {"kafka.sasl.jaas.config": "secret"}, "earliest", 1, 1.0, 1, None,
    ingest={"events": KafkaIngest("shop-events"), "payments": KafkaIngest("shop-events-paid")},
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        # The texts of delta-rs 1.6 and of Hadoop's local file system.
        ("Generic LocalFileSystem error\n ↳ Unable to copy data to file\n ↳ No space left on device (os error 28)",
         StorageError, "Free space"),
        ("java.io.IOException: No space left on device", StorageError, "/lake"),
        ("Generic S3 error: Permission denied", StorageError, "permissions"),
        ("[KAFKA_DATA_LOSS.START_OFFSET_RESET] ...", LostOffsetsError, "shop-events"),
        ("org.apache.kafka.common.errors.UnknownTopicOrPartitionException: gone", MissingTopicError, "HEADRACE_TOPIC"),
        ("[STREAMING_STATEFUL_OPERATOR_NOT_MATCH_IN_STATE_METADATA] ...", CheckpointMismatchError, "recompute events"),
        ("org.apache.kafka.common.errors.TimeoutException: Timed out waiting for a node assignment. Call: describe",
         BrokerUnavailableError, "KAFKA_BOOTSTRAP_SERVERS"),
        ("org.apache.kafka.common.errors.TopicAuthorizationException: Not authorized to access topics: [shop-events]",
         BrokerRefusedError, "refuses Read on topic shop-events to query events"),
        ("org.apache.kafka.common.errors.SaslAuthenticationException: Authentication failed during authentication due "
         "to invalid credentials with SASL mechanism SCRAM-SHA-512", BrokerRefusedError, "sasl.password"),
        ("org.apache.kafka.common.errors.SslAuthenticationException: SSL handshake failed\nCaused by: "
         "java.security.cert.CertificateExpiredException: NotAfter: Sun Nov 29", BrokerRefusedError, "has expired"),
        ("org.apache.kafka.common.errors.SslAuthenticationException: SSL handshake failed\nCaused by: "
         "java.security.cert.CertificateException: No subject alternative names matching IP address 10.0.0.1 found",
         BrokerRefusedError, "is of another host name"),
        ("org.apache.kafka.common.errors.SslAuthenticationException: PKIX path building failed: unable to find it",
         BrokerRefusedError, "ssl.ca.location"),
        ("org.apache.kafka.common.errors.SslAuthenticationException: Received fatal alert: bad_certificate",
         BrokerRefusedError, "ssl.certificate.location"),
        ("org.apache.kafka.common.errors.TopicAuthorizationException: Not authorized to access topics: [written]",
         BrokerRefusedError, "refuses Write on topic written to query events"),
        ("org.apache.kafka.common.errors.GroupAuthorizationException: Not authorized to access group: spark-1",
         BrokerRefusedError, "--operation Read --group spark-1"),
        ("PythonException:\n  raise it\nplatform_assets.errors.BrokerRefusedError: Kafka refuses Read on topic x to y.",
         BrokerRefusedError, "Read on topic x"),
        ("Job aborted.\n\tat org.apache.Foo\nCaused by: java.lang.IllegalStateException: odd", QueryFailedError, "odd"),
        # The form in which Spark 4.2 passes on what a data source in a worker raised.
        ("pyspark.errors.exceptions.captured.PythonException: An exception was thrown from the Python worker:\n"
         "Traceback (most recent call last):\n  File \"x.py\", line 1, in read\n    raise it\n"
         "pyarrow.lib.ArrowInvalid: No match for FieldRef.Name(currency) in event_id: string\nevent_type: string\n",
         QueryFailedError, "ArrowInvalid: No match for"),
        ("", QueryFailedError, "no message"),
    ],
)  # fmt: skip
def test_failure_is_named_with_what_to_do(text: str, kind: type[Exception], says: str) -> None:
    error = classify_failure("events", text, CONTEXT)
    assert type(error) is kind
    assert says in str(error)
    assert "secret" not in str(error)
    assert isinstance(error, TransientError) == (kind in (BrokerRefusedError, BrokerUnavailableError, QueryFailedError))


@pytest.mark.parametrize(
    ("query", "text", "topic"),
    [
        ("payments", "", "shop-events-paid"),
        ("start", "Topic shop-events-paid is unknown.", "shop-events-paid"),
        ("history", "", "shop-events, shop-events-paid"),
    ],
)
def test_a_topic_that_is_gone_is_the_one_that_the_query_or_the_text_names(query: str, text: str, topic: str) -> None:
    error = classify_failure(query, f"UnknownTopicOrPartitionException {text}", CONTEXT)
    assert str(error).startswith(f"Topic {topic} is gone from the broker.")
