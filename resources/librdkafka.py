"""librdkafka options: the quiet logger, and their translation into the options of Spark's Java client."""

from __future__ import annotations

import logging
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platform_assets.errors import SettingError
from platform_assets.kafka_errors import is_refusal

if TYPE_CHECKING:
    from confluent_kafka import Producer

# Errors of the connection are told by the calls that fail; this logger is for someone who turns it up to DEBUG.
_LOGGER = logging.getLogger("headrace.librdkafka")

# librdkafka writes a refused connection to stderr every 50 ms while a broker is away: 200 lines before the one clear
# error. 2 (critical) keeps what no call would tell.
_LOG_LEVEL = 2

# A refusal comes with each try to connect, which is one in ten seconds at least.
_REFUSAL_SECONDS = 60.0

# A poll returns with the first event, or after this time, where the last record was reported by another call.
_POLL_SECONDS = 0.1

TIMEOUT_SECONDS = 10.0
"""A broker that is there answers in milliseconds, one that is restarting in a few seconds."""

_JAAS = "kafka.sasl.jaas.config"

# Options whose names are the same in the Java client but for the prefix that Spark wants.
_SAME_NAME = {
    "bootstrap.servers", "security.protocol", "sasl.mechanism", "client.id", "client.dns.lookup",
    "request.timeout.ms", "reconnect.backoff.ms", "reconnect.backoff.max.ms", "metadata.max.age.ms",
    "sasl.kerberos.service.name", "ssl.cipher.suites",
}  # fmt: skip

_RENAMED = {
    "metadata.broker.list": "bootstrap.servers",
    "sasl.mechanisms": "sasl.mechanism",
    "ssl.ca.location": "ssl.truststore.location",
    "ssl.ca.pem": "ssl.truststore.certificates",
    "ssl.certificate.pem": "ssl.keystore.certificate.chain",
    "ssl.key.pem": "ssl.keystore.key",
    "ssl.key.password": "ssl.key.password",
    "sasl.oauthbearer.token.endpoint.url": "sasl.oauthbearer.token.endpoint.url",
}

# Java's PEM store of a certificate and its key is one file, or their text; librdkafka's options name two files.
_AS_TEXT = {
    "ssl.certificate.location": "ssl.keystore.certificate.chain",
    "ssl.key.location": "ssl.keystore.key",
}

# What a log-in is made of; Java has all of it in one line.
_LOGIN = {
    "sasl.username", "sasl.password", "sasl.oauthbearer.method", "sasl.oauthbearer.client.id",
    "sasl.oauthbearer.client.secret", "sasl.oauthbearer.scope", "sasl.kerberos.principal", "sasl.kerberos.keytab",
    "sasl.kerberos.kinit.cmd", "sasl.kerberos.min.time.before.relogin",
}  # fmt: skip

# They concern the C client alone: its logging, its callbacks, its producer and consumer.
_C_CLIENT_ONLY = re.compile(
    r"^(log[._]|debug$|statistics\.|socket\.|queue|queued\.|linger|batch|compression|enable\.|acks$|"
    r"message\.|delivery\.|max\.in\.flight|retries$|retry\.|partitioner|auto\.offset|group\.|session\.|fetch\.|"
    r"broker\.address|api\.version|connections\.)"
)

_LOGIN_MODULES = {
    "PLAIN": "org.apache.kafka.common.security.plain.PlainLoginModule",
    "SCRAM-SHA-256": "org.apache.kafka.common.security.scram.ScramLoginModule",
    "SCRAM-SHA-512": "org.apache.kafka.common.security.scram.ScramLoginModule",
}


class Refusals:
    """What a client is told in the background, of a broker that refuses it: its calls say only that none answered.

    An `error_cb` of librdkafka, called from the thread that polls the client. Else the errors go to the logger
    `headrace.librdkafka`, at DEBUG.
    """

    def __init__(self) -> None:
        self._newest, self._told_at = "", float("-inf")

    def __call__(self, error: Any) -> None:
        """Takes an error."""
        _LOGGER.debug("%s", error)
        if is_refusal(text := error.str()):
            self._newest, self._told_at = text, time.monotonic()

    @property
    def newest(self) -> str:
        """The newest refusal; empty where there was none lately."""
        return self._newest if time.monotonic() - self._told_at < _REFUSAL_SECONDS else ""


def quiet(options: dict[str, Any], refusals: Refusals | None = None) -> dict[str, Any]:
    """The options without librdkafka's lines on stderr; its errors go to `refusals`, and to a logger."""
    return {"error_cb": refusals or Refusals(), "log_level": _LOG_LEVEL, **options}


def flush(producer: Producer, seconds: float) -> None:
    """Serves the delivery reports until the producer has no record in hand, or for so long.

    Raises `KafkaException` of a producer that has ended for good. `Producer.flush` then calls the reports' callbacks
    with that exception set, and each of them fails with a `SystemError` (confluent-kafka 2.16).
    """
    deadline = time.monotonic() + seconds
    while len(producer) and (wait := deadline - time.monotonic()) > 0:
        producer.poll(min(wait, _POLL_SECONDS))


def java_client_options(options: dict[str, str]) -> dict[str, str]:
    """Translates librdkafka options into `kafka.*` options of Spark's Kafka source and sink.

    A certificate's and a key's files are read, so that Spark's executors need none. Options of the C client alone are
    left out. Raises `SettingError` naming an option that matters for the connection and has no translation, or whose
    file cannot be used; values, which may be secrets, are never in the message.
    """
    translated: dict[str, str] = {}
    login = {key: value for key, value in options.items() if key in _LOGIN}
    for key, value in options.items():
        if key in _SAME_NAME:
            translated[f"kafka.{key}"] = value
        elif key in _RENAMED:
            translated[f"kafka.{_RENAMED[key]}"] = value
        elif key in _AS_TEXT:
            translated[f"kafka.{_AS_TEXT[key]}"] = _read_pem(key, value)
        elif key == "ssl.endpoint.identification.algorithm":
            translated[f"kafka.{key}"] = "" if value == "none" else value
        elif key not in _LOGIN and not _C_CLIENT_ONLY.match(key):
            raise SettingError(
                f"HEADRACE_KAFKA_CONFIG: the option {key} has no counterpart in Spark's Java client. Use another way "
                "to configure it (PEM files: ssl.ca.location, ssl.certificate.location, ssl.key.location), or leave it "
                "out."
            )
    translated |= _pem_types(translated)
    if login:
        translated |= _login(translated.get("kafka.sasl.mechanism", "").upper(), login)
    return translated


def _read_pem(key: str, path: str) -> str:
    text = read_file(key, path)
    if key == "ssl.key.location" and not re.search(r"-----BEGIN (ENCRYPTED )?PRIVATE KEY-----", text):
        raise SettingError(
            "HEADRACE_KAFKA_CONFIG: the key in ssl.key.location is not in the form PKCS#8, the only one that Spark's "
            "Java client reads. Convert it: openssl pkcs8 -topk8 -nocrypt -in KEY -out NEW"
        )
    return text


def read_file(key: str, path: str) -> str:
    """The text of the file that an option names. Raises `SettingError`, with the option's name and the path."""
    try:
        return Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not a text in PEM"
        raise SettingError(f"HEADRACE_KAFKA_CONFIG: the file of {key}, {path}, cannot be read ({why}).") from None


def _pem_types(translated: dict[str, str]) -> dict[str, str]:
    """librdkafka knows PEM only; the Java client expects JKS unless told."""
    types = {}
    if any(key.startswith("kafka.ssl.truststore.") for key in translated):
        types["kafka.ssl.truststore.type"] = "PEM"
    if any(key.startswith("kafka.ssl.keystore.") for key in translated):
        types["kafka.ssl.keystore.type"] = "PEM"
    return types


def _login(mechanism: str, login: dict[str, str]) -> dict[str, str]:
    if mechanism == "OAUTHBEARER":
        return _oauth_login(login)
    if mechanism == "GSSAPI":
        names = {"sasl.kerberos.principal": "principal", "sasl.kerberos.keytab": "keyTab"}
        fields = {names[key]: value for key, value in login.items() if key in names}
        module = "com.sun.security.auth.module.Krb5LoginModule"
        return {_JAAS: _jaas_line(module, fields | {"useKeyTab": "true", "storeKey": "true", "doNotPrompt": "true"})}
    user, password = login.get("sasl.username"), login.get("sasl.password")
    if user is None or password is None:
        raise SettingError("HEADRACE_KAFKA_CONFIG: sasl.username and sasl.password belong together. Set both.")
    module = _LOGIN_MODULES.get(mechanism, "")
    if not module:
        known = ", ".join(_LOGIN_MODULES)
        raise SettingError(f"HEADRACE_KAFKA_CONFIG: sasl.mechanism must be one of {known} for a user and a password.")
    return {_JAAS: _jaas_line(module, {"username": user, "password": password})}


def _oauth_login(login: dict[str, str]) -> dict[str, str]:
    names = {"client.id": "clientId", "client.secret": "clientSecret", "scope": "scope"}
    fields = {name: login[key] for part, name in names.items() if (key := f"sasl.oauthbearer.{part}") in login}
    if login.get("sasl.oauthbearer.method") != "oidc" or not {"clientId", "clientSecret"} <= set(fields):
        raise SettingError(
            "HEADRACE_KAFKA_CONFIG: for sasl.mechanism OAUTHBEARER set sasl.oauthbearer.method to oidc, "
            "sasl.oauthbearer.token.endpoint.url, sasl.oauthbearer.client.id and sasl.oauthbearer.client.secret."
        )
    module = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLogin"
    return {
        _JAAS: _jaas_line(f"{module}Module", fields),
        "kafka.sasl.login.callback.handler.class": f"{module}CallbackHandler",
    }


def _jaas_line(module: str, fields: dict[str, str]) -> str:
    quoted = {name: value.replace("\\", "\\\\").replace('"', '\\"') for name, value in fields.items()}
    return f"{module} required " + " ".join(f'{name}="{value}"' for name, value in quoted.items()) + ";"
