"""librdkafka options become Spark's, and secrets stay where they are."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from pydantic import SecretStr

from platform_assets.errors import SettingError
from resources.kafka import KafkaResource
from resources.librdkafka import java_client_options
from resources.settings import Settings
from resources.spark.configuration import REDACTED


def test_plain_credentials_become_a_jaas_line() -> None:
    options = java_client_options(
        {
            "bootstrap.servers": "kafka:9093",
            "security.protocol": "SASL_SSL",
            "sasl.mechanisms": "PLAIN",
            "sasl.username": "shop",
            "sasl.password": 'a"b\\c',
        }
    )
    assert options == {
        "kafka.bootstrap.servers": "kafka:9093",
        "kafka.security.protocol": "SASL_SSL",
        "kafka.sasl.mechanism": "PLAIN",
        "kafka.sasl.jaas.config": "org.apache.kafka.common.security.plain.PlainLoginModule required "
        'username="shop" password="a\\"b\\\\c";',
    }


@pytest.fixture
def pem(tmp_path: Path) -> dict[str, str]:
    """A client's certificate and key in PEM files."""
    issued = trustme.CA().issue_cert("client.test", key_type=trustme.KeyType.RSA)
    key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
    encoded = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    files = {"ssl.certificate.location": tmp_path / "client.pem", "ssl.key.location": tmp_path / "key.pem"}
    issued.cert_chain_pems[0].write_to_path(files["ssl.certificate.location"])
    files["ssl.key.location"].write_bytes(encoded)
    issued.private_key_pem.write_to_path(tmp_path / "old-form.pem")
    return {name: str(path) for name, path in files.items()}


def test_a_client_certificate_and_its_key_are_read_from_their_files(pem: dict[str, str]) -> None:
    texts = {name: Path(path).read_text() for name, path in pem.items()}
    assert java_client_options(pem) == {
        "kafka.ssl.keystore.certificate.chain": texts["ssl.certificate.location"],
        "kafka.ssl.keystore.key": texts["ssl.key.location"],
        "kafka.ssl.keystore.type": "PEM",
    }


@pytest.mark.parametrize(("name", "says"), [("old-form.pem", r"PKCS#8.*openssl pkcs8"), ("none.pem", "cannot be read")])
def test_a_key_that_java_cannot_read_is_refused(name: str, says: str, pem: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=says) as caught:
        java_client_options(pem | {"ssl.key.location": str(tmp_path / name)})
    assert "PRIVATE" not in str(caught.value)


def test_a_token_is_asked_for_by_both_clients_with_the_same_account() -> None:
    options = {
        "sasl.mechanism": "OAUTHBEARER", "sasl.oauthbearer.method": "oidc", "sasl.oauthbearer.client.id": "shop",
        "sasl.oauthbearer.client.secret": 's"1', "sasl.oauthbearer.scope": "kafka",
        "sasl.oauthbearer.token.endpoint.url": "https://sso.test/token",
    }  # fmt: skip
    package = "org.apache.kafka.common.security.oauthbearer"
    assert java_client_options(options) == {
        "kafka.sasl.mechanism": "OAUTHBEARER",
        "kafka.sasl.oauthbearer.token.endpoint.url": "https://sso.test/token",
        "kafka.sasl.login.callback.handler.class": f"{package}.OAuthBearerLoginCallbackHandler",
        "kafka.sasl.jaas.config": f'{package}.OAuthBearerLoginModule required clientId="shop" clientSecret="s\\"1" '
        'scope="kafka";',
    }


def test_a_kerberos_keytab_becomes_a_jaas_line() -> None:
    options = java_client_options(
        {
            "sasl.mechanism": "GSSAPI", "sasl.kerberos.service.name": "kafka",
            "sasl.kerberos.principal": "shop@TEST", "sasl.kerberos.keytab": "/etc/shop.keytab",
        }
    )  # fmt: skip
    assert options["kafka.sasl.kerberos.service.name"] == "kafka"
    assert 'principal="shop@TEST" keyTab="/etc/shop.keytab" useKeyTab="true"' in options["kafka.sasl.jaas.config"]


def test_sparks_pattern_hides_each_secret_that_it_is_given(pem: dict[str, str]) -> None:
    given = java_client_options(
        {**pem, "ssl.key.password": "hush", "sasl.mechanism": "PLAIN", "sasl.username": "u", "sasl.password": "hush"}
    )
    shown = {key: value for key, value in given.items() if not re.search(REDACTED, key)}
    assert set(shown) == {"kafka.ssl.keystore.certificate.chain", "kafka.ssl.keystore.type", "kafka.sasl.mechanism"}


def test_scram_uses_its_own_login_module() -> None:
    options = java_client_options({"sasl.mechanism": "SCRAM-SHA-512", "sasl.username": "u", "sasl.password": "p"})
    assert "scram.ScramLoginModule" in options["kafka.sasl.jaas.config"]


def test_pem_files_are_announced_as_pem() -> None:
    options = java_client_options(
        {"ssl.ca.location": "/ca.pem", "ssl.certificate.pem": "CERT", "ssl.key.pem": "KEY", "ssl.key.password": "pw"}
    )
    assert options == {
        "kafka.ssl.truststore.location": "/ca.pem",
        "kafka.ssl.truststore.type": "PEM",
        "kafka.ssl.keystore.certificate.chain": "CERT",
        "kafka.ssl.keystore.key": "KEY",
        "kafka.ssl.keystore.type": "PEM",
        "kafka.ssl.key.password": "pw",
    }


@pytest.mark.parametrize("key", ["linger.ms", "log_level", "compression.type", "statistics.interval.ms"])
def test_options_of_the_c_client_alone_are_left_out(key: str) -> None:
    assert java_client_options({key: "5"}) == {}


@pytest.mark.parametrize(
    "options",
    [
        {"ssl.keystore.location": "hush"},
        {"sasl.username": "hush"},
        {"sasl.mechanism": "OAUTHBEARER", "sasl.username": "u", "sasl.password": "hush"},
        {"no.such.option": "hush"},
    ],
)
def test_option_without_a_counterpart_is_refused_without_its_value(options: dict[str, str]) -> None:
    with pytest.raises(SettingError, match="HEADRACE_KAFKA_CONFIG") as caught:
        java_client_options(options)
    assert "hush" not in str(caught.value)


def test_secrets_reach_the_clients_and_nothing_that_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    secret = json.dumps({"sasl.mechanism": "PLAIN", "sasl.username": "u", "sasl.password": "hush", "ssl.x": True})
    settings = Settings(kafka_bootstrap_servers="kafka:9092", kafka_config=SecretStr(secret))
    resource = KafkaResource.from_settings(settings)
    with caplog.at_level(logging.DEBUG):
        config = resource.client_config()
    assert config["sasl.password"] == "hush"
    assert config["ssl.x"] == "true"
    shown = [repr(resource), str(resource), repr(settings), caplog.text, str(resource.model_dump())]
    assert not any("hush" in text for text in shown)


@pytest.mark.parametrize("text", ["[1]", "{", '"hush"'])
def test_config_that_is_no_object_is_refused_by_name(text: str) -> None:
    settings = Settings(kafka_bootstrap_servers="kafka:9092", kafka_config=SecretStr(text))
    with pytest.raises(SettingError, match="HEADRACE_KAFKA_CONFIG") as caught:
        KafkaResource.from_settings(settings).client_config()
    assert "hush" not in str(caught.value)
