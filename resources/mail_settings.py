"""What HEADRACE_ALERTS_SMTP_URL and the addresses say, checked before a mail is sent."""

from __future__ import annotations

from dataclasses import dataclass, field
from email.headerregistry import Address
from urllib.parse import unquote, urlsplit

_SCHEMES = {"smtp": 587, "smtps": 465}
_EXAMPLE = "Write it as smtp://user:password@host:587, or smtps://user:password@host:465"


@dataclass(frozen=True)
class MailServer:
    """A server that takes mails. `is_tls`: the connection begins with TLS; else STARTTLS follows where it is offered.

    With a log-in it must, except on this machine: a password goes over no open line.
    """

    host: str
    port: int
    is_tls: bool
    user: str
    password: str = field(repr=False)


def parse_server(url: str) -> MailServer:
    """The server that a valid setting names."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or _SCHEMES[parts.scheme]
    return MailServer(host, port, parts.scheme == "smtps", unquote(parts.username or ""), unquote(parts.password or ""))


def find_trouble(url: str) -> str:
    """What is wrong with the address of a mail server, without repeating it; empty: nothing, or there is none."""
    if not url:
        return ""
    try:
        parts = urlsplit(url)
        is_whole = parts.scheme in _SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_whole = False
    if not is_whole:
        return f"is no address of a mail server. {_EXAMPLE}"
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        return f"has something behind the host and port. {_EXAMPLE}"
    if bool(parts.username) != bool(parts.password):
        return f"has only one of user and password. {_EXAMPLE}"
    return ""


def split_addresses(text: str) -> tuple[str, ...]:
    """The addresses of a text with commas between."""
    return tuple(found for each in text.split(",") if (found := each.strip()))


def find_trouble_of_addresses(text: str, *, single: bool = False) -> str:
    """What is wrong with them; empty: nothing. `single`: there may be one only."""
    addresses = split_addresses(text)
    if single and len(addresses) > 1:
        return "must be one address"
    for address in addresses:
        try:
            is_whole = bool(Address(addr_spec=address).domain)
        except Exception:  # noqa: BLE001 (the parser of the standard library raises many kinds)
            is_whole = False
        if not is_whole or not address.isprintable():
            return f"{address!r} is no address such as shop@example.com"
    return ""
