"""What a schema registry's answer is: an answer, a failure that passes, or a refusal; and the words for each."""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import msgspec

from platform_assets.errors import RegistryRefusedError
from resources.registry.access import RegistryAccess

if TYPE_CHECKING:
    import urllib3

T = TypeVar("T")

# What a registry or a proxy before it answers while it starts, is overloaded or elects a leader; 5xx besides.
_PASSING_STATUSES = (408, 425, 429)
# Statuses with which a registry says something about the request; any other 4xx is not an answer of a registry.
_MEANT_STATUSES = (404, 409, 422)
_CHUNK_BYTES = 64 * 1024
# An answer's own words go into a message that a person reads.
_MOST_WORDS = 600


@dataclass(frozen=True)
class Answer:
    """What the registry says to a request: 2xx, or an error of its own, with its code and its words."""

    access: RegistryAccess
    content: bytes
    error_code: int = 0
    words: str = ""

    def read(self, kind: type[T]) -> T:
        """The content as `kind`. Raises `RegistryRefusedError` where it is something else, so not of a registry."""
        try:
            return msgspec.json.decode(self.content, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise RegistryRefusedError(explain_other(self.access, "with what is no answer of a registry")) from None


class PassingError(Exception):
    """The attempt has failed; another may succeed, after `pause` seconds at the least."""

    def __init__(self, reason: str, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.pause = pause


class _Error(msgspec.Struct):
    error_code: int = 0
    message: str = ""


def read_bounded(response: urllib3.BaseHTTPResponse, most_bytes: int, seconds: float) -> bytes:
    """The answer's bytes; of one that is longer than `most_bytes` somewhat more than that.

    Raises `PassingError` for an answer that takes longer, and what urllib3 raises.
    """
    content, deadline = bytearray(), time.monotonic() + seconds
    while chunk := response.read1(_CHUNK_BYTES, decode_content=False):
        content += chunk
        if len(content) > most_bytes or time.monotonic() > deadline:
            response.close()
            if len(content) > most_bytes:
                return bytes(content)
            raise PassingError(f"its answer was not complete after {seconds:g} s")
    response.release_conn()
    return bytes(content)


def judge(access: RegistryAccess, response: urllib3.BaseHTTPResponse, content: bytes) -> Answer:
    """The answer. Raises `PassingError` for what waiting may change, `RegistryRefusedError` for what it does not."""
    status = response.status
    if 200 <= status < 300:
        return Answer(access, content)
    error = _read_error(content)
    if status in _PASSING_STATUSES or status >= 500:
        after = response.headers.get("Retry-After", "")
        said = f"status {status}{': ' if error.message else ''}{error.message}"
        raise PassingError(said, float(after) if after.isdecimal() and len(after) < 6 else 0.0)
    if status in (401, 403):
        raise RegistryRefusedError(
            f"The schema registry at {access} refuses the account (status {status}). Check the credentials in "
            "HEADRACE_SCHEMA_REGISTRY_CONFIG, and what the account may do there."
        )
    if 300 <= status < 400:
        where = _find_host(response.headers.get("Location", ""))
        raise RegistryRefusedError(explain_other(access, f"with a redirect to {where}, which is not followed"))
    # Of a path that it does not have a server says 404; of what it does not know a registry says more.
    if status in _MEANT_STATUSES and (error.error_code >= 1000 or (status != 404 and error.message)):
        return Answer(access, content, error.error_code or status, error.message)
    raise RegistryRefusedError(explain_other(access, f"with status {status}"))


def _read_error(content: bytes) -> _Error:
    """The registry's code and words, these in one bounded line; nothing where it is no error of a registry."""
    try:
        error = msgspec.json.decode(content, type=_Error)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Error()
    return _Error(error.error_code, " ".join(error.message.split())[:_MOST_WORDS].rstrip("."))


def _find_host(location: str) -> str:
    """The host alone: a path or a query may hold a secret."""
    try:
        return (urlsplit(location).hostname or "another path")[:100]
    except ValueError:
        return "no address"


def explain_other(access: RegistryAccess, how: str) -> str:
    """The message for an answer that no registry gives: it answers ... `how`."""
    return (
        f"The schema registry at {access} answers {how}. Check HEADRACE_SCHEMA_REGISTRY_URL: it is the address of "
        "Confluent's API, such as http://host:8081, or http://host:8080/apis/ccompat/v7 of Apicurio."
    )


def explain_tls(access: RegistryAccess, error: Exception) -> Exception:
    """The error to raise. A connection that ends within the handshake may be a server that restarts; it may pass."""
    reason = error.args[0] if error.args else error
    if isinstance(reason, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return PassingError("the connection ended within the TLS handshake")
    said = getattr(reason, "verify_message", "") or getattr(reason, "reason", "") or type(reason).__name__
    return RegistryRefusedError(
        f"TLS with the schema registry at {access} fails ({said}). Check ssl.ca.location, ssl.certificate.location and "
        "ssl.key.location in HEADRACE_SCHEMA_REGISTRY_CONFIG, and that the server speaks TLS at this port."
    )
