"""What a schema registry, or what stands in its place, may do to a client: each failure is told apart and bounded."""

from __future__ import annotations

import base64
import pickle
import socket
import threading
import time
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import pytest

from platform_assets.errors import RegistryRefusedError, RegistryUnavailableError, UnknownSchemaError
from platform_assets.streaming.formats.registered_schema import RegisteredSchema
from resources.registry import answers, http, schema_registry
from resources.registry.access import RegistryAccess
from resources.registry.missing_ids import MissingIds
from resources.registry.schema_registry import SchemaRegistry
from tests.registry_servers import Handler, reply, serving

_SECRET = "hunter2-and-more"
_LOG_IN = (("Authorization", "Basic " + base64.b64encode(f"user:{_SECRET}".encode()).decode()),)


def _registry(*urls: str, patience: float = 5.0) -> SchemaRegistry:
    return SchemaRegistry(RegistryAccess(urls, headers=_LOG_IN), patience)


def _good(request: Handler) -> None:
    reply(request, {"schema": '"string"'})


def test_a_registry_that_comes_back_is_asked_again_and_each_id_once() -> None:
    asked: list[str] = []

    def handle(request: Handler) -> None:
        asked.append(request.path)
        _good(request) if len(asked) > 2 else reply(request, b"starting", 503)

    with serving(handle) as url:
        registry = _registry(url)
        found = registry(7)
        copy: SchemaRegistry = pickle.loads(pickle.dumps(registry))
        assert copy(7) is found is SchemaRegistry(registry.access, 0.0)(7)
    assert found == RegisteredSchema(7, "avro", '"string"') and asked == ["/schemas/ids/7"] * 3


def test_what_asks_for_more_patience_than_there_is_ends_at_once() -> None:
    with serving(lambda request: reply(request, b"", 429, Retry_After="3600")) as url:
        began = time.monotonic()
        with pytest.raises(RegistryUnavailableError, match=r"within 60 s \(status 429\).*HEADRACE_SCHEMA_REGISTRY_URL"):
            _registry(url, patience=60.0)(1)
        assert time.monotonic() - began < 30


def test_a_failure_inside_the_registry_is_shown_in_its_words() -> None:
    said = {"error_code": 500, "message": "#: could not determine\n version."}
    with (
        serving(lambda request: reply(request, said, 500)) as url,
        pytest.raises(RegistryUnavailableError, match=r"\(status 500: #: could not determine version\)"),
    ):
        _registry(url, patience=0.0)(1)


def test_a_registry_that_is_away_is_given_up_when_the_patience_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    clock = SimpleNamespace(monotonic=lambda: sum(pauses), sleep=pauses.append)
    monkeypatch.setattr(http, "time", clock)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(
            RegistryUnavailableError, match=f"{url} does not answer within 1 s .it accepts no connection"
        ):
            _registry(url, patience=1.0)(1)
        assert 0.2 < sum(pauses) <= 1.0
        with serving(_good) as other:
            assert _registry(url, other, patience=0.0)(1).text == '"string"'


def test_a_host_without_an_address_may_get_one_later() -> None:
    with pytest.raises(RegistryUnavailableError, match="its host has no address"):
        _registry("http://registry.invalid:8081", patience=0.0).subjects()


@pytest.mark.parametrize("at_once", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"])
def test_a_silent_server_and_one_that_drips_are_left(at_once: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_ANSWER_SECONDS", 0.3)
    is_left = threading.Event()

    def handle(request: Handler) -> None:
        request.wfile.write(at_once)
        while not is_left.wait(0.1):
            if at_once:
                request.wfile.write(b" ")

    with serving(handle) as url:
        with pytest.raises(RegistryUnavailableError, match=r"no answer came|not complete after 0\.3 s"):
            _registry(url, patience=0.0)(1)
        is_left.set()


def test_an_answer_cut_off_is_asked_for_again() -> None:
    asked: list[str] = []

    def handle(request: Handler) -> None:
        asked.append(request.path)
        if len(asked) == 1:
            request.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"schema": ')
            request.close_connection = True
        else:
            _good(request)

    with serving(handle) as url:
        assert _registry(url)(1).text == '"string"'


def test_an_answer_without_an_end_is_not_read_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_MOST_BYTES", 1 << 20)
    sent: list[int] = []

    def handle(request: Handler) -> None:
        request.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(1000):
            request.wfile.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            sent.append(65536)

    with serving(handle) as url, pytest.raises(RegistryRefusedError, match="answers with more than 1 MiB"):
        _registry(url)(1)
    assert sum(sent) < 32 << 20


def test_credentials_do_not_follow_a_redirect() -> None:
    followed: list[str] = []

    def elsewhere(request: Handler) -> None:
        followed.append(request.path)
        _good(request)

    with serving(elsewhere) as other:
        for status in (301, 302, 303, 307, 308):
            for target in (f"{other}/x?token=abc", "/login", "http://[", ""):
                with (
                    serving(lambda request, s=status, t=target: reply(request, b"", s, Location=t)) as url,  # type: ignore[misc]
                    pytest.raises(RegistryRefusedError, match=r"redirect to .*not followed") as refused,
                ):
                    _registry(url)(1)
                assert "abc" not in str(refused.value)
    assert followed == []


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_account_is_one_clear_error_without_the_secret(status: int) -> None:
    asked: list[str] = []

    def handle(request: Handler) -> None:
        asked.append(request.headers["Authorization"])
        reply(request, {"error_code": status * 100 + 1, "message": "no"}, status)

    with serving(handle) as url:
        registry = _registry(url)
        with pytest.raises(
            RegistryRefusedError, match=r"refuses the account.*HEADRACE_SCHEMA_REGISTRY_CONFIG"
        ) as refused:
            registry(1)
    assert asked == [_LOG_IN[0][1]]
    for text in (str(refused.value), repr(registry), str(registry), repr(registry.access)):
        assert _SECRET not in text and _LOG_IN[0][1] not in text
        assert url in text


@pytest.mark.parametrize(
    ("status", "content"),
    [
        (200, b"<!DOCTYPE html><html>log in</html>"),
        (200, b""),
        (200, b"\xff\xfe"),
        (200, b"[" * 100_000),
        (200, b'{"schema": 1}'),
        (200, b'{"schema": "x", "references": [{"name": "y"}]}'),
        (200, b"[]"),
        (404, b""),
        (404, b"<html>not found</html>"),
        (404, b'{"error_code": 404, "message": "HTTP 404 Not Found"}'),
        (404, b'{"detail": "NotFoundException", "status": 404}'),
        (404, b"[" * 100_000),
        (400, b'{"error_code": 400, "message": "bad"}'),
        (405, b""),
        (422, b"[]"),
    ],
)
def test_what_is_no_registry_is_refused_at_once(status: int, content: bytes) -> None:
    with (
        serving(lambda request: reply(request, content, status)) as url,
        pytest.raises(RegistryRefusedError, match=r"answers with .*Confluent's API, such as"),
    ):
        _registry(url)(1)


def test_an_unknown_id_is_told_from_a_wrong_address_and_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, asked = [0.0], list[str]()
    monkeypatch.setattr(schema_registry, "_missing", MissingIds(lambda: clock[0]))

    def handle(request: Handler) -> None:
        asked.append(request.path)
        if len(asked) == 1:
            reply(request, {"error_code": 40403, "message": "Schema 5 not found"}, 404)
        else:
            _good(request)

    with serving(handle) as url:
        registry = _registry(url)
        for _ in range(2):  # a hostile sender's ids would cost a request each
            with pytest.raises(UnknownSchemaError, match=f"{url} has no schema of the id 5"):
                registry(5)
        assert len(asked) == 1
        clock[0] += 60.0
        assert registry(5).schema_id == 5


def test_a_type_that_nobody_decodes_is_named() -> None:
    with (
        serving(lambda request: reply(request, {"schema": "x", "schemaType": "THRIFT"})) as url,
        pytest.raises(UnknownSchemaError, match="is of the type THRIFT"),
    ):
        _registry(url)(1)


def test_words_of_the_registry_are_bounded_and_one_line() -> None:
    found = answers.Answer(RegistryAccess(("http://a",)), b"")
    assert found.error_code == 0
    with serving(lambda request: reply(request, {"error_code": 409, "message": "a\nb" * 10_000}, 409)) as url:
        answer = http.call(RegistryAccess((url,)), "GET", "/", patience_seconds=0)
    assert answer.words.startswith("a ba b") and len(answer.words) == 600


@pytest.mark.parametrize(("has_pages", "count"), [(True, 2500), (True, 1000), (True, 0), (False, 2500)])
def test_subjects_are_read_to_the_last_page(has_pages: bool, count: int) -> None:
    subjects = [f"s{number}" for number in range(count)]

    def handle(request: Handler) -> None:
        asked = {name: int(value[0]) for name, value in parse_qs(urlsplit(request.path).query).items()}
        start, size = (asked["offset"], asked["limit"]) if has_pages else (0, count)
        reply(request, subjects[start : start + size])

    with serving(handle) as url:
        assert _registry(url).subjects() == tuple(sorted(subjects))
