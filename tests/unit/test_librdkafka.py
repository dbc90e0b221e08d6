"""librdkafka options become Spark's, and secrets stay where they are."""

from __future__ import annotations

import json
import logging

import pytest
from pydantic import SecretStr

from platform_assets.errors import SettingError
from resources.kafka import KafkaResource
from resources.librdkafka import java_client_options
from resources.settings import Settings


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
