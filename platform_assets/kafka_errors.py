"""What Kafka's clients say of a broker that refuses them, as one error that says what to do.

Both clients are read here: librdkafka's codes and sentences, and the Java client's exceptions that Spark passes on.
"""

from __future__ import annotations

import re

from platform_assets.errors import BrokerRefusedError, BrokerUnavailableError

_NOT_AUTHORIZED = re.compile(
    r"(topic|group|cluster|transactional.?id).?authorization(?:[_ ]failed|exception)", re.IGNORECASE
)
_JAVA_NAMES = re.compile(r"Not authorized to access (?:topics|group): \[?([^\]\s]+)")
_NO_TOKEN = re.compile(r"OAUTHBEARER token|OAuthBearer.*(token|login)|LoginException.*token", re.IGNORECASE)
_NO_LOGIN = re.compile(r"SASL authentication error|SaslAuthenticationException|Authentication failed", re.IGNORECASE)
_OWN_CERTIFICATE = re.compile(
    r"alert[ :_]+(bad|unknown|certificate|unsupported)[ _](certificate|ca|required|expired|unknown|revoked)"
    r"|Received fatal alert: \w*(certificate|_ca\b)\w*",
    re.IGNORECASE,
)
_TLS = re.compile(
    r"SSL handshake failed|SslAuthenticationException|SSLHandshakeException|certificate verify failed|PKIX path"
    r"|SSL routines",
    re.IGNORECASE,
)
_EXPIRED = re.compile(
    r"certificate has expired|CertificateExpiredException|NotAfter:|validity check failed", re.IGNORECASE
)
_OTHER_HOST = re.compile(
    r"hostname mismatch|ip address mismatch|No subject alternative|No name matching|doesn't match", re.IGNORECASE
)
_NO_LEADER = re.compile(
    r"No leaders found|leader not available|LEADER_NOT_AVAILABLE|LeaderNotAvailable"
    r"|high watermark is not caught up|OffsetNotAvailable|OFFSET_NOT_AVAILABLE"
    r"|not enough in.?sync replicas|NOT_ENOUGH_REPLICAS|NotEnoughReplicas",
    re.IGNORECASE,
)
_AGAIN = "Nothing is lost, and streams go on by themselves when it is right."
_AT = re.compile(r"\w+://([\w.\-\[\]:]+:\d+)/")


def is_refusal(text: str) -> bool:
    """Whether this text of a client tells of a refusal: of a certificate or an account, or a missing right."""
    return any(found.search(text) for found in (_NOT_AUTHORIZED, _NO_TOKEN, _NO_LOGIN, _OWN_CERTIFICATE, _TLS))


def missing_right(operation: str, resource: str, part: str) -> BrokerRefusedError:
    """The error for a right that an account lacks. `resource` is such as `topic shop-events`, `part` who needs it."""
    kind, _, name = resource.partition(" ")
    option = f"--{kind} {name}" if name else f"--{kind}"
    return BrokerRefusedError(
        f"Kafka refuses {operation} on {resource} to {part}. Grant it to the account: kafka-acls.sh --add "
        f"--allow-principal User:... --operation {operation} {option}. {_AGAIN} docs/security.md lists all rights."
    )


def find_refusal(text: str, operation: str, resource: str, part: str) -> BrokerRefusedError | None:
    """The error for this text of a client; None where it tells of no refusal.

    The rest says what was being done: that right, by Kafka's name, on that resource, is what is missing where a right
    is, unless the text names another topic.
    """
    if (refused := _NOT_AUTHORIZED.search(text)) is not None:
        named = _JAVA_NAMES.search(text)
        return _explain_right(refused[1].lower(), named[1] if named else "", operation, resource, part)
    if _NO_TOKEN.search(text):
        why = "The endpoint of sasl.oauthbearer.token.endpoint.url gives no token to log in to Kafka with. Check it, "
        return BrokerRefusedError(
            f"{why}sasl.oauthbearer.client.id and .client.secret in HEADRACE_KAFKA_CONFIG. {_AGAIN}"
        )
    if _NO_LOGIN.search(text):
        return BrokerRefusedError(
            "Kafka refuses the log-in: no such account, another password, or another mechanism. Check sasl.mechanism, "
            f"sasl.username and sasl.password in HEADRACE_KAFKA_CONFIG, and the account in Kafka. {_AGAIN}"
        )
    if _OWN_CERTIFICATE.search(text):
        return BrokerRefusedError(
            "Kafka's broker refuses this client's certificate, or wants one. Check ssl.certificate.location and "
            f"ssl.key.location in HEADRACE_KAFKA_CONFIG, and whether it has expired. {_AGAIN}"
        )
    return _explain_tls(text) if _TLS.search(text) else None


def find_no_leader(text: str, resource: str) -> BrokerUnavailableError | None:
    """The error for this text of a client; None unless it says that a partition of `resource` cannot be served."""
    return no_leader(resource) if _NO_LEADER.search(text) else None


def no_leader(resource: str) -> BrokerUnavailableError:
    """The error for brokers that answer, and of which none may lead a partition of `resource`, such as `topic events`.

    A broker that lacks acknowledged records must not lead: until one that has them is back, all wait.
    """
    return BrokerUnavailableError(
        f"Kafka's brokers answer, and cannot serve {resource}: a partition has no leader, or too few replicas in sync. "
        "Start the brokers that are down, with their disks. Nothing is lost, readers and writers wait, and streams go "
        "on by themselves (docs/kafka-cluster.md)."
    )


def _explain_right(kind: str, name: str, operation: str, resource: str, part: str) -> BrokerRefusedError:
    """The error for a kind of resource; the platform needs no right but on topics, other clients' settings may."""
    if kind == "topic":
        return missing_right(operation, f"topic {name}" if name else resource, part)
    if kind == "cluster":
        # Since Kafka 2.8 an account with Write on any topic has it.
        return missing_right("IdempotentWrite", "cluster", f"{part}, nor Write on a topic")
    if kind == "group":
        return missing_right("Read", f"group {name or '...'}", part)
    named = resource if resource.startswith("transactional-id ") else "transactional-id ..."
    return missing_right("Write", named, part)


def find_address(text: str) -> str:
    """The host and port of the broker that librdkafka's text is about; empty where it names none."""
    found = _AT.search(text)
    return found[1] if found else ""


def _explain_tls(text: str) -> BrokerRefusedError:
    at = find_address(text)
    broker = f"Kafka's broker at {at}" if at else "Kafka's broker"
    if _EXPIRED.search(text):
        why, what = "has expired", "Have the broker's certificate renewed."
    elif _OTHER_HOST.search(text):
        why = "is of another host name"
        what = "Name the broker as its certificate does, in KAFKA_BOOTSTRAP_SERVERS and in its advertised.listeners."
    else:
        why = "is not proved by the authority in ssl.ca.location of HEADRACE_KAFKA_CONFIG"
        what = "Name the file of the authority that has issued it, and check that this listener speaks TLS."
    return BrokerRefusedError(f"The certificate of {broker} {why}. {what} {_AGAIN}")
