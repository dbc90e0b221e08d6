"""librdkafka options: the quiet logger, and their translation into the options of Spark's Java client."""

from __future__ import annotations

import logging
import re
from typing import Any

from platform_assets.errors import SettingError

# Errors of the connection are told by the calls that fail; this logger is for someone who turns it up to DEBUG.
_LOGGER = logging.getLogger("headrace.librdkafka")

# librdkafka writes a refused connection to stderr every 50 ms while a broker is away: 200 lines before the one clear
# error. 2 (critical) keeps what no call would tell.
_LOG_LEVEL = 2

# Options whose names are the same in the Java client but for the prefix that Spark wants.
_SAME_NAME = {
    "bootstrap.servers", "security.protocol", "sasl.mechanism", "client.id", "client.dns.lookup",
    "request.timeout.ms", "reconnect.backoff.ms", "reconnect.backoff.max.ms", "metadata.max.age.ms",
    "sasl.kerberos.service.name", "ssl.endpoint.identification.algorithm", "ssl.cipher.suites",
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


def quiet(options: dict[str, Any]) -> dict[str, Any]:
    """The options without librdkafka's lines on stderr; its errors go to the logger `headrace.librdkafka`, at DEBUG."""
    return {"error_cb": _log_error, "log_level": _LOG_LEVEL, **options}


def java_client_options(options: dict[str, str]) -> dict[str, str]:
    """Translates librdkafka options into `kafka.*` options of Spark's Kafka source and sink.

    Options of the C client alone are left out. Raises `SettingError` naming an option that matters for the connection
    and has no translation; values, which may be secrets, are never in the message.
    """
    translated: dict[str, str] = {}
    left = dict(options)
    user, password = left.pop("sasl.username", None), left.pop("sasl.password", None)
    if (user is None) != (password is None):
        raise SettingError("HEADRACE_KAFKA_CONFIG: sasl.username and sasl.password belong together. Set both.")
    for key, value in left.items():
        if key in _SAME_NAME:
            translated[f"kafka.{key}"] = value
        elif key in _RENAMED:
            translated[f"kafka.{_RENAMED[key]}"] = value
        elif not _C_CLIENT_ONLY.match(key):
            raise SettingError(
                f"HEADRACE_KAFKA_CONFIG: the option {key} has no counterpart in Spark's Java client. Use another way "
                "to configure it (PEM files: ssl.ca.location, ssl.certificate.pem, ssl.key.pem), or leave it out."
            )
    translated |= _pem_types(translated)
    if user is not None and password is not None:
        translated["kafka.sasl.jaas.config"] = _jaas_config(translated.get("kafka.sasl.mechanism", ""), user, password)
    return translated


def _pem_types(translated: dict[str, str]) -> dict[str, str]:
    """librdkafka knows PEM only; the Java client expects JKS unless told."""
    types = {}
    if any(key.startswith("kafka.ssl.truststore.") for key in translated):
        types["kafka.ssl.truststore.type"] = "PEM"
    if any(key.startswith("kafka.ssl.keystore.") for key in translated):
        types["kafka.ssl.keystore.type"] = "PEM"
    return types


def _jaas_config(mechanism: str, user: str, password: str) -> str:
    module = _LOGIN_MODULES.get(mechanism.upper())
    if module is None:
        known = ", ".join(_LOGIN_MODULES)
        raise SettingError(f"HEADRACE_KAFKA_CONFIG: sasl.mechanism must be one of {known} for a user and a password.")
    quoted = [value.replace("\\", "\\\\").replace('"', '\\"') for value in (user, password)]
    return f'{module} required username="{quoted[0]}" password="{quoted[1]}";'


def _log_error(error: object) -> None:
    _LOGGER.debug("%s", error)
