"""Requests to a schema registry: credentials, TLS, limits of time and size, patience, and what each failure is.

urllib3 and not Confluent's own client: that one adds twelve packages and 26 MB to each executor's archive, takes
0.12 s to import where urllib3 takes 0.05 s, and bounds neither an answer's size nor the time of its retries.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from platform_assets.errors import RegistryRefusedError, RegistryUnavailableError
from resources.registry.access import RegistryAccess, build_tls
from resources.registry.answers import Answer, PassingError, explain_other, explain_tls, judge, read_bounded
from resources.registry.tokens import find_keeper

if TYPE_CHECKING:
    import urllib3

_CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"
# A registry answers in milliseconds. One that accepts a connection and is silent would hold a task for ever.
_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 10.0
# A server that sends without an end would fill the memory. 20,000 subjects are 2 MB, the largest schemas 1 MB.
_MOST_BYTES = 16 * 1024 * 1024
# Executors that find the registry away all at once must not all come back at once.
_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 5.0


def call(
    access: RegistryAccess, method: str, path: str, body: Mapping[str, Any] | None = None, *, patience_seconds: float
) -> Answer:
    """Asks the registry, and asks again with growing pauses while it is away.

    Each request can be made twice without harm. Raises `RegistryUnavailableError` when there is no answer within the
    patience (0: each address is asked once), `RegistryRefusedError` at once for what no waiting changes: the account,
    a certificate, an address that is not a registry's. No message has a secret in it.
    """
    content = None if body is None else msgspec.json.encode(body)
    deadline = time.monotonic() + patience_seconds
    attempt, pause = 0, _FIRST_PAUSE_SECONDS
    while True:
        url = access.urls[attempt % len(access.urls)]
        try:
            return _ask(access, method, url + path, content)
        except PassingError as passing:
            attempt += 1
            if attempt % len(access.urls):
                continue
            wait = max(pause * random.uniform(0.5, 1.0), passing.pause)
            if time.monotonic() + wait > deadline:
                raise RegistryUnavailableError(
                    f"The schema registry at {access} does not answer within {patience_seconds:g} s ({passing}). Check "
                    "that it runs, its log, and HEADRACE_SCHEMA_REGISTRY_URL."
                ) from None
            time.sleep(wait)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)


def _ask(access: RegistryAccess, method: str, url: str, body: bytes | None) -> Answer:
    if access.login is None:
        return judge(access, *_send(access, method, url, body, ""))
    keeper = find_keeper(access.login, os.getpid())
    token = keeper.find()
    response, content = _send(access, method, url, body, token)
    if response.status == 401:  # the token was withdrawn, or the registry's clock is ahead of the login server's
        response, content = _send(access, method, url, body, keeper.find(refused=token))
    return judge(access, response, content)


def _send(
    access: RegistryAccess, method: str, url: str, body: bytes | None, token: str
) -> tuple[urllib3.BaseHTTPResponse, bytes]:
    import urllib3
    from urllib3.exceptions import HTTPError, LocationParseError, SSLError

    headers = {"Accept": _CONTENT_TYPE, "Accept-Encoding": "identity", **dict(access.headers)}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    if body is not None:
        headers["Content-Type"] = _CONTENT_TYPE
    try:
        response = _open_pool(access, os.getpid()).request(
            method, url, body=body, headers=headers, retries=False, redirect=False, preload_content=False,
            timeout=urllib3.Timeout(connect=_CONNECT_SECONDS, read=_ANSWER_SECONDS),
        )  # fmt: skip
        content = read_bounded(response, _MOST_BYTES, _ANSWER_SECONDS)
    except SSLError as error:
        raise explain_tls(access, error) from None
    except LocationParseError:
        raise RegistryRefusedError(explain_other(access, "to no request, for its host cannot be read")) from None
    except (HTTPError, OSError) as error:
        raise PassingError(_name_failure(error)) from None
    if len(content) > _MOST_BYTES:
        raise RegistryRefusedError(explain_other(access, f"with more than {_MOST_BYTES >> 20} MiB"))
    return response, content


@lru_cache(maxsize=8)
def _open_pool(access: RegistryAccess, pid: int) -> urllib3.PoolManager:
    """Connections that stay open; a process that was forked has its own, for two would read each other's answers."""
    import urllib3

    return urllib3.PoolManager(num_pools=4, maxsize=4, ssl_context=build_tls(access))


def _name_failure(error: Exception) -> str:
    """The failure in words. A library's own message may name an object, and says less."""
    from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError, ReadTimeoutError

    if isinstance(error, ReadTimeoutError):
        return f"no answer came within {_ANSWER_SECONDS:g} s"
    if isinstance(error, NameResolutionError):
        return "its host has no address"
    if isinstance(error, NewConnectionError):
        return "it accepts no connection"
    if isinstance(error, ConnectTimeoutError):
        return f"no connection within {_CONNECT_SECONDS:g} s"
    return "the connection ended before the answer did"
