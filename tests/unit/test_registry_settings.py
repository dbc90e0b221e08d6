"""The registry's settings: what is refused, without its value, and what a log-in is made of."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
import trustme

from platform_assets.errors import SettingError
from resources.registry.schema_registry import SchemaRegistry
from resources.registry_settings import build_access, split_urls
from resources.settings import Settings
from tests.unit.test_settings import refuse

_URL, _CONFIG = "HEADRACE_SCHEMA_REGISTRY_URL", "HEADRACE_SCHEMA_REGISTRY_CONFIG"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("registry:8081", "must begin with http"),
        ("http://a:8081, ftp://b", "must begin with http"),
        ("http://user:hunter2@a:8081", "set them in HEADRACE_SCHEMA_REGISTRY_CONFIG"),
        ("http://a:8081?token=hunter2", "must have no ? and no #"),
        ("https://:8081", "must name a host"),
        ("embeded", "must begin with http"),
    ],
)
def test_an_address_that_is_none_is_refused(value: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = refuse(monkeypatch, _URL, value)
    assert f"{_URL}: " in refused and said in refused and "hunter2" not in refused


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("hunter2", "must be a JSON object of texts"),
        ('["hunter2"]', "must be a JSON object of texts"),
        ('{"bearer.auth.token": 5}', "must be a JSON object of texts"),
        ('{"sasl.username": "hunter2"}', "has no option 'sasl.username'; it takes basic.auth"),
        ('{"basic.auth.user.info": "hunter2"}', "must be user:password"),
        ('{"basic.auth.user.info": "a:hunter2", "bearer.auth.token": "hunter2"}', "leave the other out"),
        ('{"bearer.auth.token": "hunter2\\r\\nHost: x"}', "one word of ASCII"),
        ('{"bearer.auth.token": ""}', "one word of ASCII"),
        ('{"bearer.auth.logical.cluster": "hunter2\\nx"}', "one word of ASCII"),
        ('{"basic.auth.credentials.source": "SASL_INHERIT"}', "must be USER_INFO, or be left out"),
        ('{"bearer.auth.credentials.source": "hunter2"}', "must be STATIC_TOKEN or OAUTHBEARER, or be left out"),
        ('{"bearer.auth.client.secret": "hunter2"}', "needs bearer.auth.credentials.source=OAUTHBEARER"),
        (
            '{"bearer.auth.credentials.source": "OAUTHBEARER", "bearer.auth.client.secret": "hunter2"}',
            "OAUTHBEARER needs bearer.auth.issuer.endpoint.url, bearer.auth.client.id",
        ),
        ('{"bearer.auth.credentials.source": "OAUTHBEARER", "bearer.auth.token": "hunter2"}', "leave the other out"),
        (
            '{"bearer.auth.credentials.source": "OAUTHBEARER", "bearer.auth.issuer.endpoint.url": "hunter2",'
            ' "bearer.auth.client.id": "a", "bearer.auth.client.secret": "b"}',
            "must begin with https:// or http://",
        ),
        (
            '{"bearer.auth.credentials.source": "OAUTHBEARER", "bearer.auth.client.id": "a",'
            ' "bearer.auth.client.secret": "b", "bearer.auth.issuer.endpoint.url": "https://a:hunter2@login/token"}',
            "must have no user before its host",
        ),
        ('{"ssl.certificate.location": "hunter2"}', "belong together"),
        ('{"ssl.ca.location": "hunter2"}', "need https:// in HEADRACE_SCHEMA_REGISTRY_URL"),
    ],
)
def test_an_option_that_cannot_be_used_is_refused(value: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(_URL, "http://a:8081")
    refused = refuse(monkeypatch, _CONFIG, value)
    assert f"{_CONFIG}: " in refused and said in refused and "hunter2" not in refused and "\n" not in refused


@pytest.mark.parametrize("value", ["avro", "protobuf", "json-schema", "xml"])
def test_published_schemas_need_a_registry(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = refuse(monkeypatch, "HEADRACE_PUBLISH_FORMAT", value)
    assert "HEADRACE_PUBLISH_FORMAT: " in refused
    assert ("set HEADRACE_SCHEMA_REGISTRY_URL" in refused) == (value != "xml")
    assert Settings(schema_registry_url="embedded", publish_format="avro").publish_format == "avro"


def test_no_registry_is_said_to_be_none() -> None:
    for url in ("", "embedded"):
        with pytest.raises(SettingError, match=r"No schema registry is set.*HEADRACE_SCHEMA_REGISTRY_URL"):
            SchemaRegistry.from_settings(Settings(schema_registry_url=url))


def test_addresses_are_tried_in_their_order() -> None:
    assert split_urls(" http://a:1/ ,https://b/apis/ccompat/v7/,") == ("http://a:1", "https://b/apis/ccompat/v7")


def test_the_log_in_is_what_the_options_say() -> None:
    basic = dict(
        build_access("http://a", '{"basic.auth.user.info": "ü:p:w", "bearer.auth.logical.cluster": "lsrc-1"}').headers
    )
    assert base64.b64decode(basic["Authorization"].removeprefix("Basic ")).decode() == "ü:p:w"
    assert basic["target-sr-cluster"] == "lsrc-1"
    token = '{"bearer.auth.credentials.source": "STATIC_TOKEN", "bearer.auth.token": "t"}'
    assert build_access("http://a", token).headers == (("Authorization", "Bearer t"),)
    assert build_access("http://a", "").headers == ()


def test_files_of_certificates_are_looked_at_when_the_registry_is_made(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"file of ssl\.ca\.location cannot be read \(No such file"):
        build_access("https://a", f'{{"ssl.ca.location": "{tmp_path}/none"}}')
    for name, content in (("text", b"no certificate"), ("bytes", b"\xff\xfe")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(SettingError, match=r"cannot be used|it is no text"):
            build_access("https://a", f'{{"ssl.ca.location": "{tmp_path / name}"}}')


def test_an_encrypted_key_without_its_password_asks_nobody(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    client = trustme.CA().issue_cert("client.test")
    key = serialization.load_pem_private_key(client.private_key_pem.bytes(), None)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"hunter2"),
    )
    (tmp_path / "certificate").write_bytes(client.cert_chain_pems[0].bytes())
    (tmp_path / "key").write_bytes(encrypted)
    files = f'"ssl.certificate.location": "{tmp_path}/certificate", "ssl.key.location": "{tmp_path}/key"'
    with pytest.raises(SettingError, match=r"an encrypted key needs ssl\.key\.password"):
        build_access("https://a", f"{{{files}}}")
    access = build_access("https://a", f'{{{files}, "ssl.key.password": "hunter2"}}')
    assert "hunter2" not in repr(access) and access.key.startswith("-----BEGIN ENCRYPTED")
