"""TLS with a schema registry: both sides are proved, by files that only the machine of the start has."""

from __future__ import annotations

import pickle
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from platform_assets.errors import RegistryRefusedError
from resources.registry.schema_registry import SchemaRegistry
from resources.settings import Settings
from tests.registry_servers import Handler, reply, serving


def _good(request: Handler) -> None:
    reply(request, {"schema": '"string"'})


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def files(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("certificates")
    client = authority.issue_cert("client.test")
    texts = {
        "ssl.ca.location": authority.cert_pem.bytes(),
        "ssl.certificate.location": client.cert_chain_pems[0].bytes(),
        "ssl.key.location": client.private_key_pem.bytes(),
    }
    for name, text in texts.items():
        (folder / name).write_bytes(text)
    return {name: str(folder / name) for name in texts}


def _with_files(url: str, files: dict[str, str], *names: str) -> SchemaRegistry:
    config = "{" + ", ".join(f'"{name}": "{files[name]}"' for name in names) + "}"
    return SchemaRegistry.from_settings(
        Settings.model_validate({"schema_registry_url": url, "schema_registry_config": config})
    )


@pytest.fixture
def server_tls(authority: trustme.CA) -> Iterator[ssl.SSLContext]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    yield context


def test_tls_is_proved_by_the_named_authority(server_tls: ssl.SSLContext, files: dict[str, str]) -> None:
    with serving(_good, server_tls) as url:
        registry = _with_files(url, files, "ssl.ca.location")
        Path(files["ssl.ca.location"]).rename(files["ssl.ca.location"] + ".away")  # as on an executor
        try:
            assert pickle.loads(pickle.dumps(registry))(1).text == '"string"'
        finally:
            Path(files["ssl.ca.location"] + ".away").rename(files["ssl.ca.location"])
        with pytest.raises(RegistryRefusedError, match=r"TLS .* fails \(.*certificate.*\).*ssl\.ca\.location"):
            _with_files(url, files)(1)
        with pytest.raises(RegistryRefusedError, match=r"TLS .* fails \(.*localhost"):
            _with_files(url.replace("127.0.0.1", "localhost"), files, "ssl.ca.location")(1)


def test_a_client_certificate_is_shown(
    server_tls: ssl.SSLContext, authority: trustme.CA, files: dict[str, str]
) -> None:
    server_tls.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(server_tls)
    with serving(_good, server_tls) as url:
        assert _with_files(url, files, *files)(1).text == '"string"'
        with pytest.raises(RegistryRefusedError, match=r"TLS .* fails .*ssl\.certificate\.location"):
            _with_files(url, files, "ssl.ca.location")(1)


def test_a_server_without_tls_at_an_https_address_is_refused(files: dict[str, str]) -> None:
    with serving(_good) as url, pytest.raises(RegistryRefusedError, match=r"TLS .*speaks TLS at this port"):
        _with_files(url.replace("http:", "https:"), files, "ssl.ca.location")(1)
