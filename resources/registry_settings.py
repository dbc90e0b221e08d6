"""What HEADRACE_SCHEMA_REGISTRY_URL and HEADRACE_SCHEMA_REGISTRY_CONFIG may say, and what follows from it."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from platform_assets.errors import SettingError
from resources import web_address

if TYPE_CHECKING:
    from resources.registry.access import RegistryAccess

EMBEDDED = "embedded"
"""The address that means Headrace's own registry."""

# The names of Confluent's Python client. Where credentials come from is always the option itself.
_SOURCES = {
    "basic.auth.credentials.source": ("USER_INFO",),
    "bearer.auth.credentials.source": ("STATIC_TOKEN", "OAUTHBEARER"),
}
_LOGIN = ("bearer.auth.issuer.endpoint.url", "bearer.auth.client.id", "bearer.auth.client.secret")
_SCOPE = "bearer.auth.scope"
_HEADERS = {
    "bearer.auth.logical.cluster": "target-sr-cluster", "bearer.auth.identity.pool.id": "Confluent-Identity-Pool-Id",
}  # fmt: skip
_FILES = {"ssl.ca.location", "ssl.certificate.location", "ssl.key.location"}
_OPTIONS = {
    *_SOURCES, *_HEADERS, *_FILES, *_LOGIN, _SCOPE, "basic.auth.user.info", "bearer.auth.token", "ssl.key.password",
}  # fmt: skip


def split_urls(text: str) -> tuple[str, ...]:
    """The addresses, of which the first that answers is used; none for an empty text."""
    return tuple(part.strip().rstrip("/") for part in text.split(",") if part.strip())


def find_trouble(text: str) -> str:
    """What is wrong with the addresses of a registry; empty: nothing, or there is none."""
    for url in () if text == EMBEDDED else split_urls(text):
        if trouble := web_address.find_trouble(url, "set them in HEADRACE_SCHEMA_REGISTRY_CONFIG"):
            return trouble
        if "?" in url or "#" in url:
            return "must have no ? and no #: what is asked for is appended to it"
    return ""


def parse_options(text: str, urls: str) -> dict[str, str]:
    """The options of a JSON object. Raises `ValueError`, without any value, for what `urls` cannot use."""
    try:
        options = json.loads(text or "{}")
    except ValueError:
        options = None
    if not isinstance(options, dict) or not all(isinstance(value, str) for value in options.values()):
        raise ValueError("must be a JSON object of texts")
    if unknown := sorted(options.keys() - _OPTIONS):
        raise ValueError(f"has no option {unknown[0]!r}; it takes {', '.join(sorted(_OPTIONS))}")
    for name, known in _SOURCES.items():
        if options.get(name, known[0]) not in known:
            raise ValueError(f"{name} must be {' or '.join(known)}, or be left out")
    _check_account(options)
    if ("ssl.certificate.location" in options) != ("ssl.key.location" in options):
        raise ValueError("ssl.certificate.location and ssl.key.location belong together: set both")
    if options.keys() & _FILES and not all(url.startswith("https://") for url in split_urls(urls)):
        raise ValueError("options of ssl.* need https:// in HEADRACE_SCHEMA_REGISTRY_URL")
    return options


def build_access(urls: str, config: str) -> RegistryAccess:
    """The access that the two settings describe. Reads the certificates' files; contacts nobody.

    Raises `SettingError` where a file cannot be read or used; values are never in the message.
    """
    from resources.registry.access import OAuthLogin, RegistryAccess, build_tls

    try:
        options = parse_options(config, urls)
    except ValueError as error:
        raise SettingError(f"Bad setting. HEADRACE_SCHEMA_REGISTRY_CONFIG: {error}") from None
    texts = {name: _read(name, options[name]) for name in _FILES & options.keys()}
    authority = texts.get("ssl.ca.location", "")
    login = None
    if _LOGIN[0] in options:
        url, client_id, secret = (options[name] for name in _LOGIN)
        login = OAuthLogin(url, client_id, secret, options.get(_SCOPE, ""), authority)
    access = RegistryAccess(
        urls=split_urls(urls),
        headers=_headers(options),
        authority=authority,
        certificate=texts.get("ssl.certificate.location", ""),
        key=texts.get("ssl.key.location", ""),
        key_password=options.get("ssl.key.password", ""),
        login=login,
    )
    try:
        build_tls(access)
    except ssl.SSLError as error:
        raise SettingError(
            f"Bad setting. HEADRACE_SCHEMA_REGISTRY_CONFIG: the files of ssl.* cannot be used ({error.reason}). They "
            "are PEM files, the key belongs to the certificate, and an encrypted key needs ssl.key.password."
        ) from None
    return access


def _check_account(options: Mapping[str, str]) -> None:
    user, token = options.get("basic.auth.user.info"), options.get("bearer.auth.token")
    _check_login(options, has_other=user is not None or token is not None)
    if user is not None and token is not None:
        raise ValueError("has a user and a token; the registry takes one: leave the other out")
    if user is not None and ":" not in user:
        raise ValueError("basic.auth.user.info must be user:password")
    if token is not None and not (token and all("!" <= letter <= "~" for letter in token)):
        raise ValueError("bearer.auth.token must be one word of ASCII characters")
    for name in _HEADERS.keys() & options.keys():
        if not all("!" <= letter <= "~" for letter in options[name]):  # no line may be added to the request
            raise ValueError(f"{name} must be one word of ASCII characters")


def _check_login(options: Mapping[str, str], *, has_other: bool) -> None:
    """Raises `ValueError` where the options of a login server are not whole, or another account is named besides."""
    is_wanted = options.get("bearer.auth.credentials.source") == "OAUTHBEARER"
    if not is_wanted and (alone := sorted(options.keys() & {*_LOGIN, _SCOPE})):
        raise ValueError(f"{alone[0]} needs bearer.auth.credentials.source=OAUTHBEARER")
    if not is_wanted:
        return
    if has_other:
        raise ValueError("has a login server, and a user or a token; the registry takes one: leave the other out")
    if missing := [name for name in _LOGIN if not options.get(name)]:
        raise ValueError(f"OAUTHBEARER needs {', '.join(missing)}")
    if not options[_LOGIN[0]].startswith(("https://", "http://")):
        raise ValueError(f"{_LOGIN[0]} must begin with https:// or http://")
    if "@" in options[_LOGIN[0]].split("/")[2]:  # messages name the address
        raise ValueError(f"{_LOGIN[0]} must have no user before its host: {_LOGIN[1]} and {_LOGIN[2]} say who asks")


def _headers(options: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    headers = {header: options[name] for name, header in _HEADERS.items() if name in options}
    if "basic.auth.user.info" in options:
        encoded = base64.b64encode(options["basic.auth.user.info"].encode()).decode()
        headers["Authorization"] = f"Basic {encoded}"
    elif "bearer.auth.token" in options:
        headers["Authorization"] = f"Bearer {options['bearer.auth.token']}"
    return tuple(headers.items())


def _read(name: str, path: str) -> str:
    try:
        return Path(path).expanduser().read_text()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise SettingError(
            f"Bad setting. HEADRACE_SCHEMA_REGISTRY_CONFIG: the file of {name} cannot be read ({reason})."
        ) from None
