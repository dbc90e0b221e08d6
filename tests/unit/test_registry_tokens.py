"""Tokens by OAuth: a registry that takes only tokens that its login server has handed out, and not for long."""

from __future__ import annotations

import base64
import itertools
import json
import multiprocessing
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, unquote_plus

import pytest
import trustme

from platform_assets.errors import RegistryRefusedError, RegistryUnavailableError
from resources.registry.schema_registry import SchemaRegistry
from resources.settings import Settings
from tests.registry_servers import Handler, reply, serving

ID, SECRET = "head:race", "s3cr3t %&ü"


class LoginServer:
    """A token endpoint as RFC 6749 has it, and a registry that asks it; both by HTTP."""

    def __init__(self) -> None:
        self.seconds = 3600.0
        self.status = 200
        self.valid: dict[str, float] = {}
        self.handed_out = 0
        self.scopes: set[str] = set()
        self._numbers, self._lock = itertools.count(), threading.Lock()

    def hand_out(self, request: Handler) -> None:
        """Gives a token to whom it knows."""
        form = parse_qs(request.rfile.read(int(request.headers.get("Content-Length", 0))).decode())
        kind, _, encoded = request.headers.get("Authorization", "").partition(" ")
        account = tuple(map(unquote_plus, base64.b64decode(encoded).decode().split(":")))
        if self.status != 200:
            reply(request, {"error": "temporarily_unavailable"}, self.status)
        elif (request.command, kind, form.get("grant_type")) != ("POST", "Basic", ["client_credentials"]):
            reply(request, {"error": "invalid_request"}, 400)
        elif account != (ID, SECRET):
            reply(request, {"error": "invalid_client"}, 401)
        else:
            with self._lock:
                token = f"token-{next(self._numbers)}"
                self.valid[token] = time.monotonic() + self.seconds
                self.handed_out += 1
                self.scopes.update(form.get("scope", []))
            reply(request, {"access_token": token, "token_type": "bearer", "expires_in": self.seconds})

    def answer(self, request: Handler) -> None:
        """The registry: each schema is a text that names its id."""
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if time.monotonic() >= self.valid.get(token, 0.0):
            reply(request, {"error_code": 40101, "message": "Unauthorized"}, 401)
        else:
            reply(request, {"schema": json.dumps(request.path.rsplit("/", 1)[-1])})

    @contextmanager
    def running(
        self, options: Mapping[str, str] | None = None, tls: ssl.SSLContext | None = None
    ) -> Iterator[SchemaRegistry]:
        """A registry's client, with these options besides the login's."""
        with serving(self.hand_out, tls) as login, serving(self.answer, tls) as url:
            config = {
                "bearer.auth.credentials.source": "OAUTHBEARER",
                "bearer.auth.issuer.endpoint.url": f"{login}/token",
                "bearer.auth.client.id": ID,
                "bearer.auth.client.secret": SECRET,
            } | dict(options or {})
            settings = {"schema_registry_url": url, "schema_registry_config": json.dumps(config)}
            yield SchemaRegistry.from_settings(Settings.model_validate(settings))


@pytest.fixture
def server() -> LoginServer:
    return LoginServer()


def patient(registry: SchemaRegistry, seconds: float) -> SchemaRegistry:
    return SchemaRegistry(registry.access, seconds)


def test_one_token_serves_all_threads_until_it_ends(server: LoginServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with server.running({"bearer.auth.scope": "schema:read"}) as registry:
        registry(100)
        assert (server.handed_out, server.scopes) == (1, {"schema:read"})
        now = time.monotonic()
        monkeypatch.setattr("resources.registry.tokens.time.monotonic", lambda: now + 3600 * 0.8)
        with ThreadPoolExecutor(8) as threads:
            found = list(threads.map(registry, range(40)))
        assert [schema.text for schema in found] == [f'"{number}"' for number in range(40)]
        assert server.handed_out == 2, "one thread has asked, and all others have waited for it"


def test_a_token_that_the_registry_takes_no_longer_is_replaced_once(server: LoginServer) -> None:
    with server.running() as registry:
        registry(1)
        server.valid.clear()
        registry(2)
        assert server.handed_out == 2
        server.valid.clear()
        server.seconds = 0.0
        with pytest.raises(RegistryRefusedError, match=r"refuses the account \(status 401\)"):
            registry(3)
        assert server.handed_out == 3


def test_tokens_that_end_soon_are_asked_for_again_before(server: LoginServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.seconds = 10.0
    now = time.monotonic()
    with server.running() as registry:
        for passed in range(40):
            monkeypatch.setattr("resources.registry.tokens.time.monotonic", lambda passed=passed: now + passed)
            registry(passed)
    assert server.handed_out == 5, "one each eight seconds"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"bearer.auth.client.secret": "wrong-secret"}, r"gives no token \(status 401, invalid_client\)"),
        ({"bearer.auth.issuer.endpoint.url": "http://[::1"}, "host cannot be read"),
    ],
)
def test_a_refused_login_says_which_options_to_look_at(server: LoginServer, options: dict[str, str], said: str) -> None:
    with server.running(options) as registry:
        with pytest.raises(RegistryRefusedError, match=rf"login server .*{said}.*bearer\.auth\.client\.id") as raised:
            registry(1)
        assert "wrong-secret" not in str(raised.value) and "s3cr3t" not in repr(registry)


def test_a_login_server_that_is_away_is_waited_for(server: LoginServer) -> None:
    server.status = 503
    with server.running() as registry:
        with pytest.raises(RegistryUnavailableError, match=r"login server .* status 503"):
            patient(registry, 0.0)(1)
        timer = threading.Timer(0.5, lambda: setattr(server, "status", 200))
        timer.start()
        assert patient(registry, 30.0)(1).text == '"1"'
        timer.join()


@pytest.mark.parametrize("seconds", [3600, 3600.5, "3600", None])
def test_a_token_lasts_as_long_as_the_server_says_in_either_spelling(server: LoginServer, seconds: object) -> None:
    asked = itertools.count()

    def answer(request: Handler) -> None:
        request.rfile.read(int(request.headers.get("Content-Length", 0)))
        server.valid["own"] = time.monotonic() + 60
        reply(request, {"access_token": "own", "expires_in": seconds, "count": next(asked)})

    with serving(answer) as other, server.running({"bearer.auth.issuer.endpoint.url": other}) as registry:
        assert [registry(number).text for number in (1, 2, 3)] == ['"1"', '"2"', '"3"']
    assert next(asked) == 1


@pytest.mark.parametrize(
    "content",
    [
        {"access_token": "a\r\nHost: b"},
        {"access_token": "a", "expires_in": "soon"},
        {"access_token": "a", "token_type": "mac"},
        {"token": "a"},
        {"access_token": ""},
        b"<html>",
    ],
)
def test_an_answer_that_is_no_token_is_refused(server: LoginServer, content: object) -> None:
    def answer(request: Handler) -> None:
        request.rfile.read(int(request.headers.get("Content-Length", 0)))
        reply(request, content)

    with (
        serving(answer) as other,
        server.running({"bearer.auth.issuer.endpoint.url": other}) as registry,
        pytest.raises(RegistryRefusedError, match="login server"),
    ):
        registry(1)


def test_another_process_logs_in_by_itself_and_trusts_the_same_authority(server: LoginServer, tmp_path: Path) -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with server.running({"ssl.ca.location": str(tmp_path / "ca.pem")}, context) as registry:
        assert registry(1).text == '"1"'
        (tmp_path / "ca.pem").unlink()  # as on an executor
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as processes:
            assert processes.submit(registry, 2).result(60).text == '"2"'
        assert server.handed_out == 2
