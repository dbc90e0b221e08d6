"""Asks a broker for its certificate, to say what is wrong with it: librdkafka says only that it is not trusted."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable, Mapping

from platform_assets.errors import BrokerRefusedError
from platform_assets.kafka_errors import find_address, find_refusal

# A broker that is there answers in milliseconds; the caller has waited for ten seconds already.
_TIMEOUT_SECONDS = 5.0


def find_trouble(address: str, options: Mapping[str, str]) -> str:
    """OpenSSL's words about the certificate that the broker at `address` (host:port) shows; empty where all is well.

    Compares as librdkafka does with these options of it. Empty too where nobody answers, or the authority's file
    cannot be read.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    try:
        context = ssl.create_default_context(cafile=options.get("ssl.ca.location"), cadata=options.get("ssl.ca.pem"))
        context.check_hostname = options.get("ssl.endpoint.identification.algorithm") != "none"
        with contextlib.closing(socket.create_connection((host, int(port)), _TIMEOUT_SECONDS)) as connection:
            context.wrap_socket(connection, server_hostname=host).close()
    except ssl.SSLCertVerificationError as error:
        return f"certificate verify failed: {error.verify_message}"
    except (OSError, ValueError):
        return ""
    return ""


def look_closer(text: str, read_options: Callable[[], Mapping[str, str]]) -> BrokerRefusedError | None:
    """The error that says what is wrong with the broker's certificate, where this text of librdkafka is of one."""
    address = find_address(text)
    if not address or "certificate verify failed" not in text:
        return None
    return find_refusal(f"ssl://{address}/ {find_trouble(address, read_options())}", "", "", "")
