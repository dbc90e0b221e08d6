"""Tokens that a login server hands out for some time: OAuth 2.0, client credentials (RFC 6749, 4.4)."""

from __future__ import annotations

import base64
import os
import ssl
import threading
import time
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote_plus, urlencode

import msgspec

from platform_assets.errors import RegistryRefusedError
from resources.registry.access import OAuthLogin
from resources.registry.answers import PassingError, read_bounded

if TYPE_CHECKING:
    import urllib3

# A login server answers in milliseconds. One that accepts a connection and is silent would hold a task for ever.
_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 10.0
# A token is some kB.
_MOST_BYTES = 1024 * 1024
# A token that ends on its way to the registry would be refused there, and look like a wrong account.
_RENEWED_AT = 0.8
# By the specification the length of a token's life may be left out.
_SECONDS_UNSAID = 300.0


class _Token(msgspec.Struct):
    access_token: str
    token_type: str = "Bearer"
    expires_in: float | None = None


class _Refusal(msgspec.Struct):
    error: str = ""


class TokenKeeper:
    """The newest token of one login in one process. Of any thread: while one asks for a token, the others wait."""

    def __init__(self, login: OAuthLogin) -> None:
        self._login, self._lock = login, threading.Lock()
        self._token, self._renewed_at = "", 0.0

    def find(self, refused: str = "") -> str:
        """A token that lasts for some time yet; another one than `refused`, which the registry did not take.

        Raises `PassingError` while the login server does not answer, `RegistryRefusedError` where it refuses.
        """
        with self._lock:
            if not self._token or time.monotonic() >= self._renewed_at or self._token == refused:
                found = _fetch(self._login)
                seconds = _SECONDS_UNSAID if found.expires_in is None else found.expires_in
                self._token, self._renewed_at = found.access_token, time.monotonic() + seconds * _RENEWED_AT
            return self._token


@lru_cache(maxsize=8)
def find_keeper(login: OAuthLogin, pid: int) -> TokenKeeper:
    """The process's own: of one that was forked a thread may hold the lock, which is not in the new process."""
    return TokenKeeper(login)


def _fetch(login: OAuthLogin) -> _Token:
    import urllib3
    from urllib3.exceptions import HTTPError, LocationParseError, SSLError

    account = f"{quote_plus(login.client_id)}:{quote_plus(login.client_secret)}"
    headers = {
        "Accept": "application/json", "Accept-Encoding": "identity",
        "Content-Type": "application/x-www-form-urlencoded",
        "Authorization": f"Basic {base64.b64encode(account.encode()).decode()}",
    }  # fmt: skip
    asked = {"grant_type": "client_credentials"} | ({"scope": login.scope} if login.scope else {})
    try:
        response = _open_pool(login, os.getpid()).request(
            "POST", login.url, body=urlencode(asked), headers=headers, retries=False, redirect=False,
            preload_content=False, timeout=urllib3.Timeout(connect=_CONNECT_SECONDS, read=_ANSWER_SECONDS),
        )  # fmt: skip
        content = read_bounded(response, _MOST_BYTES, _ANSWER_SECONDS)
    except SSLError as error:
        reason = error.args[0] if error.args else error
        if isinstance(reason, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
            raise PassingError("the login server ended the TLS handshake") from None
        said = getattr(reason, "verify_message", "") or type(reason).__name__
        raise _refuse(login, f"cannot be trusted ({said})") from None
    except LocationParseError:
        raise _refuse(login, "has an address whose host cannot be read") from None
    except (HTTPError, OSError):
        raise PassingError(f"the login server {login.url} does not answer") from None
    return _judge(login, response.status, content)


def _judge(login: OAuthLogin, status: int, content: bytes) -> _Token:
    if status in (408, 425, 429) or status >= 500:
        raise PassingError(f"the login server {login.url} answers with status {status}")
    try:
        if 200 <= status < 300 and len(content) <= _MOST_BYTES:
            # Some servers write the seconds as a text.
            token = msgspec.json.decode(content, type=_Token, strict=False)
            if token.token_type.lower() == "bearer" and _is_word(token.access_token):
                return token
            raise _refuse(login, "hands out no bearer token")
        said = msgspec.json.decode(content, type=_Refusal).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        said = ""
    raise _refuse(login, f"gives no token (status {status}{', ' if said else ''}{said[:100]})")


def _is_word(token: str) -> bool:
    """Whether no line can be added to a request by it."""
    return bool(token) and all("!" <= letter <= "~" for letter in token)


def _refuse(login: OAuthLogin, how: str) -> RegistryRefusedError:
    return RegistryRefusedError(
        f"The login server {login.url} of the schema registry {how}. Check bearer.auth.issuer.endpoint.url, "
        "bearer.auth.client.id, bearer.auth.client.secret and bearer.auth.scope in HEADRACE_SCHEMA_REGISTRY_CONFIG."
    )


@lru_cache(maxsize=8)
def _open_pool(login: OAuthLogin, pid: int) -> urllib3.PoolManager:
    import urllib3

    return urllib3.PoolManager(num_pools=1, maxsize=1, ssl_context=_build_trust(login))


def _build_trust(login: OAuthLogin) -> ssl.SSLContext:
    """TLS with the login server: often a public one, where the registry's authority is a company's own."""
    context = ssl.create_default_context()
    if login.authority:
        context.load_verify_locations(cadata=login.authority)
    return context
