"""How to reach a schema registry and log in there, as a value that may be sent to executors."""

from __future__ import annotations

import os
import ssl
import tempfile
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class OAuthLogin:
    """A login server, and who asks it for tokens. May be sent to another process; shows no secret.

    `authority` is a PEM text: its certificates are trusted besides the system's.
    """

    url: str
    client_id: str = field(repr=False)
    client_secret: str = field(repr=False)
    scope: str = ""
    authority: str = field(default="", repr=False)


@dataclass(frozen=True)
class RegistryAccess:
    """The addresses of one registry, and how to log in there. May be sent to another process; shows no secret.

    `headers` are those of the log-in; `login` says who hands out a token besides. `authority`, `certificate` and `key`
    are PEM texts, not files: executors on other machines have no such files.
    """

    urls: tuple[str, ...]
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    authority: str = field(default="", repr=False)
    certificate: str = field(default="", repr=False)
    key: str = field(default="", repr=False)
    key_password: str = field(default="", repr=False)
    login: OAuthLogin | None = field(default=None, repr=False)

    def __str__(self) -> str:
        """The addresses, as a message names them."""
        return ", ".join(self.urls)


def build_tls(access: RegistryAccess) -> ssl.SSLContext:
    """TLS as `access` says: its authority's certificates, else the system's. Raises `ssl.SSLError` for bad PEM."""
    context = ssl.create_default_context(cadata=access.authority or None)
    if access.certificate:
        # OpenSSL takes a client's certificate from a file only.
        descriptor, name = tempfile.mkstemp(suffix=".pem")
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(f"{access.certificate}\n{access.key}")
            # Without a password OpenSSL would ask for that of an encrypted key, at the terminal.
            context.load_cert_chain(name, password=access.key_password)
        finally:
            Path(name).unlink()
    return context
