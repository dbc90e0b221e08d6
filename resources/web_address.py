"""What an http address in a setting may say: webhooks, collectors, servers that are told or asked."""

from __future__ import annotations

from urllib.parse import urlsplit


def find_trouble(url: str, log_in: str = "use a webhook whose path or query is its secret") -> str:
    """What is wrong with an address, without the address; empty when nothing is, or there is none.

    `log_in` says where a user and a password belong instead.
    """
    if not url:
        return ""
    if not all("!" <= character <= "~" for character in url):
        return "must have no spaces and only ASCII characters: write others as %XX, and a host in its xn-- form"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "must be an address such as https://host:443/path; its host or its port cannot be read"
    if parts.scheme not in ("http", "https"):
        return "must begin with http:// or https://"
    if not parts.hostname or port == 0:
        return "must name a host, as https://host/path"
    if parts.username is not None or parts.password is not None:
        return f"must have no user name or password before its host: {log_in}"
    return ""
