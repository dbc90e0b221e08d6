"""An OAuth 2 token endpoint on this machine: client credentials in, signed tokens out, and the keys that prove them."""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.registry_servers import Handler, reply, serving


@dataclass
class TokenEndpoint:
    """Its address is there while it serves (`serving_tokens`)."""

    address: str = ""
    clients: dict[str, str] = field(default_factory=dict)
    key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))

    @property
    def token_url(self) -> str:
        """The address at which clients ask for tokens."""
        return f"{self.address}/token"

    @property
    def jwks_url(self) -> str:
        """The address at which the broker asks for the keys."""
        return f"{self.address}/keys"

    def add_client(self, name: str) -> str:
        """Makes a client known; gives its secret."""
        return self.clients.setdefault(name, secrets.token_urlsafe(16))

    def handle(self, request: Handler) -> None:
        """Answers one request."""
        if request.path == "/keys":
            reply(request, {"keys": [self._public_key()]}, Content_Type="application/json")
            return
        form = parse_qs(request.rfile.read(int(request.headers.get("Content-Length", 0))).decode())
        kind, _, text = request.headers.get("Authorization", "").partition(" ")
        name, _, secret = base64.b64decode(text).decode().partition(":") if kind == "Basic" else ("", "", "")
        if form.get("grant_type") != ["client_credentials"] or not secret or self.clients.get(name) != secret:
            reply(request, {"error": "invalid_client"}, 401, Content_Type="application/json")
            return
        reply(
            request,
            {"access_token": self._sign(name), "token_type": "Bearer", "expires_in": 300},
            Content_Type="application/json",
        )

    def _sign(self, name: str) -> str:
        now = int(time.time())
        claims = {"sub": name, "aud": "kafka", "iat": now, "exp": now + 300, "scope": "kafka"}
        signed = ".".join(_encode(json.dumps(part).encode()) for part in ({"alg": "RS256", "kid": "1"}, claims))
        signature = self.key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_encode(signature)}"

    def _public_key(self) -> dict[str, Any]:
        numbers = self.key.public_key().public_numbers()
        modulus, exponent = (number.to_bytes((number.bit_length() + 7) // 8) for number in (numbers.n, numbers.e))
        return {
            "kty": "RSA", "kid": "1", "use": "sig", "alg": "RS256", "n": _encode(modulus), "e": _encode(exponent),
        }  # fmt: skip


@contextlib.contextmanager
def serving_tokens() -> Iterator[TokenEndpoint]:
    """An endpoint on the loopback interface, for the block."""
    endpoint = TokenEndpoint()
    with serving(endpoint.handle) as endpoint.address:
        yield endpoint


def _encode(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).decode().rstrip("=")
