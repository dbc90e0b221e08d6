"""The platform's own clients at a real Kafka that trusts nobody: what they need, and what they say of a refusal."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyspark
import pytest
from confluent_kafka.admin import NewTopic

from platform_assets.errors import BrokerRefusedError, BrokerUnavailableError, MissingTopicError, SettingError
from platform_assets.kafka_errors import find_refusal
from resources import kafka, kafka_records, kafka_topics
from resources.jars import spark_jars
from resources.java import java_binary
from resources.kafka import KafkaResource
from resources.kafka_open_transactions import read_ends, read_held_back
from resources.kafka_records import find_records, read_newest, read_times
from resources.kafka_topics import read_retention
from resources.range_reader import RangeReader
from resources.settings import Settings
from tests.integration.supervised_platform import wait_for
from tests.secured_broker import Certificates, SecuredBroker, topic_rights

pytestmark = pytest.mark.release


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal comes at once, and is told when a call has waited for its time."""
    for module in (kafka, kafka_records, kafka_topics):
        monkeypatch.setattr(module, "TIMEOUT_SECONDS", 3.0)


@dataclasses.dataclass
class Account:
    """An account without rights, a topic, and the platform's client that logs in by the account."""

    broker: SecuredBroker
    name: str
    topic: str
    kafka: KafkaResource

    def grant(self, *operations: str) -> None:
        """Gives rights on the topic."""
        self.broker.grant(*topic_rights(self.name, self.topic, *operations))

    def send(self, value: bytes) -> str:
        """What the broker says to one record; empty where it took it."""
        said: list[str] = []
        producer = self.kafka.producer()
        producer.produce(self.topic, value, on_delivery=lambda error, _: said.append(str(error or "")))
        assert producer.flush(60) == 0
        return said[0]

    def read(self) -> list[bytes]:
        """The values of the topic, read as the streams read them."""
        end = self.kafka.end_offsets(self.topic)[0]
        batches = RangeReader(self.kafka.client_config())(self.topic, [(0, 0, end)])
        return [value for batch in batches for value in batch.column("value").to_pylist()]


@pytest.fixture(params=["password", "certificate", "token"])
def account(request: pytest.FixtureRequest, secured: SecuredBroker, tmp_path: Path) -> Iterator[Account]:
    """An account that logs in by each of the ways in turn."""
    name = topic = f"{request.param}-{uuid.uuid4().hex[:8]}"
    if request.param == "certificate":
        secured.certificates.issue(name)
    ways: dict[str, Callable[[str], dict[str, str]]] = {
        "password": secured.add_account, "certificate": secured.options_of_certificate,
        "token": secured.options_of_token,
    }  # fmt: skip
    secured.admin().create_topics([NewTopic(topic, 1, 1)])[topic].result(30)
    with KafkaResource.from_settings(secured.settings(tmp_path, ways[request.param](name))) as kafka:
        yield Account(secured, name, topic, kafka)


def test_each_right_that_is_missing_is_named_and_once_granted_is_enough(account: Account) -> None:
    kafka, topic = account.kafka, account.topic
    for ask in (kafka.partitions, kafka.end_offsets, kafka.topic_id):
        with pytest.raises(BrokerRefusedError, match=rf"refuses Describe on topic {topic} to the platform"):
            ask(topic)
    refused = find_refusal(account.send(b"refused"), "Write", f"topic {topic}", "a test")
    assert "refuses Write on" in str(refused) and f"--operation Write --topic {topic}" in str(refused)

    account.grant("DESCRIBE")
    assert kafka.end_offsets(topic) == {0: 0} and kafka.topic_id(topic)
    with pytest.raises(BrokerRefusedError, match=rf"refuses DescribeConfigs on topic {topic} to the checks"):
        read_retention(kafka, topic)
    account.grant("DESCRIBE_CONFIGS")
    assert read_retention(kafka, topic) == timedelta(days=7)

    account.grant("WRITE")
    assert [account.send(value) for value in (b"1", b"2")] == ["", ""]
    with pytest.raises(BrokerRefusedError, match=rf"refuses Read on topic {topic} to the stream over it"):
        account.read()
    with pytest.raises(BrokerRefusedError, match=rf"refuses Read on topic {topic} to the platform, which reads"):
        find_records(kafka, topic, [(0, 0, 2)])
    account.grant("READ")
    assert account.read() == [b"1", b"2"]
    assert find_records(kafka, topic, [(0, 0, 2)]) == [(0, 0), (0, 1)]
    assert read_newest(kafka, topic) == {0: b"2"} and set(read_times(kafka, topic, {0: 0})) == {0}
    assert read_ends(kafka, topic) == {0: (2, 2)} and not read_held_back(kafka, topic)
    assert run_java_client(kafka.spark_options(), topic) == ["1", "2", "of Java"]


def run_java_client(options: dict[str, str], topic: str) -> list[str]:
    """Writes a record and reads all by the Java client that Spark has, without Spark."""
    text = "".join(f"{key.removeprefix('kafka.')}={_escape(value)}\n" for key, value in options.items())
    spark = sorted(Path(pyspark.__file__).with_name("jars").glob("*.jar"))
    classes = [
        jar for jar in (*spark_jars(), *spark) if jar.name.startswith(("kafka-clients", "slf4j-api", "lz4", "jackson"))
    ]
    command = [
        str(java_binary()), "-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", os.pathsep.join(map(str, classes)),
        str(Path(__file__).with_name("ReadTopic.java")), topic,
    ]  # fmt: skip
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def _escape(value: str) -> str:
    """A value of a Java properties file."""
    return value.replace("\\", "\\\\").replace("\n", "\\n")


def test_a_topic_that_may_be_seen_and_is_not_there_is_said_to_be_missing(secured: SecuredBroker) -> None:
    with secured.administrator() as kafka, pytest.raises(MissingTopicError):
        kafka.partitions("nowhere")


def test_a_log_in_that_is_wrong_is_named(secured: SecuredBroker, impatient: None, tmp_path: Path) -> None:
    account, token = secured.add_account("somebody"), secured.options_of_token("somebody")
    other = secured.certificates.folder / "other-ca.pem"
    Certificates(tmp_path / "others").authority.cert_pem.write_to_path(other)
    tls = {"security.protocol": "SSL", "ssl.ca.location": account["ssl.ca.location"]}
    cases: list[tuple[dict[str, str], str]] = [
        (account | {"sasl.password": "hush"}, "refuses the log-in"),
        (account | {"sasl.username": "nobody"}, "refuses the log-in"),
        (token | {"sasl.oauthbearer.client.secret": "hush"}, "gives no token"),
        (account | {"ssl.ca.location": str(other)}, r"is not proved by the authority in ssl\.ca\.location"),
        (tls, "refuses this client's certificate, or wants one"),
    ]
    for options, says in cases:
        settings = secured.settings(tmp_path, options)
        with KafkaResource.from_settings(settings) as kafka, pytest.raises(BrokerRefusedError, match=says) as caught:
            kafka.end_offsets("any")
        assert "\n" not in str(caught.value) and "hush" not in str(caught.value)
    missing = secured.settings(tmp_path, account | {"ssl.ca.location": "/nowhere/ca.pem"})
    with (
        KafkaResource.from_settings(missing) as kafka,
        pytest.raises(SettingError, match=r"ssl\.ca\.location, /nowhere"),
    ):
        kafka.end_offsets("any")


def test_a_brokers_certificate_that_is_wrong_is_named_until_it_is_renewed(
    secured: SecuredBroker, impatient: None, tmp_path: Path
) -> None:
    settings = secured.settings(tmp_path, secured.add_account("patient"))
    other_name = settings.kafka_bootstrap_servers.replace("127.0.0.1", "localhost")
    elsewhere = settings.model_copy(update={"kafka_bootstrap_servers": other_name})

    def ask(settings: Settings = settings) -> str:
        with KafkaResource.from_settings(settings) as kafka:
            try:
                kafka.admin()
            except BrokerUnavailableError as error:  # on a busy machine the wait may end before the refusal
                return str(error)
        return "it answers"

    wait_for(lambda: f"Kafka's broker at {other_name} is of another host name. " in ask(elsewhere), "another name")
    try:
        secured.renew_certificate(until=datetime.now(UTC) - timedelta(minutes=1))
        said = wait_for(lambda: found if "has expired" in (found := ask()) else None, "the certificate is seen")
        assert f"The certificate of Kafka's broker at {secured.sasl} has expired. " in said and "\n" not in said
    finally:
        secured.renew_certificate()
    wait_for(lambda: ask() == "it answers", "the broker is trusted again")
