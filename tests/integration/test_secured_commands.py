"""The platform's commands at a real Kafka that trusts nobody: each with the rights of docs/security.md and no more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from deltalake import DeltaTable

from resources.kafka import KafkaResource
from tests.copied_project import copy_project, keep_streams
from tests.integration.test_simulator import read_all
from tests.integration.test_watermarks import purchase
from tests.secured_broker import SecuredBroker, topic_rights
from tests.short_lived_jvm import ENVIRONMENT

pytestmark = pytest.mark.release

NOON = datetime(2024, 2, 29, 12, tzinfo=UTC)
# The topic of the stream `high_value_users`.
PUBLISHED = "high-value-users"
LONG = purchase(20, NOON, user_id="u20", revenue=150.0, product_name="x" * 2000)
RECORDS = [*(purchase(n, NOON, user_id=f"u{n}", revenue=150.0) for n in range(20)), LONG]


@dataclass(frozen=True)
class Commands:
    """A copy of the project with two streams, an account at the broker, and the commands that log in by it."""

    broker: SecuredBroker
    project: Path
    account: str
    topic: str
    environment: dict[str, str]

    def run(self, *command: str, **variables: str) -> str:
        """What it says; it must end well."""
        done = self._call(*command, **variables)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def refused(self, *command: str) -> str:
        """The one line with which it is refused."""
        done = self._call(*command)
        said = (done.stdout + done.stderr).strip()
        lines = [line for line in said.splitlines() if "refuses" in line]
        assert done.returncode == 1 and len(lines) == 1 and "Traceback" not in said, said
        return lines[0]

    def _call(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "jobs.cli", *command], cwd=self.project, env=self.environment | variables,
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    def grant(self, topic: str, *operations: str) -> None:
        """Gives rights on a topic."""
        self.broker.grant(*topic_rights(self.account, topic, *operations))

    def revoke(self, topic: str, *operations: str) -> None:
        """Takes rights on a topic."""
        self.broker.revoke(*topic_rights(self.account, topic, *operations))

    def users(self, table: str) -> list[str]:
        """The users of a table, sorted."""
        path = Path(self.environment["HEADRACE_HOME"], "lakehouse", *table.split("."))
        found: list[str] = DeltaTable(str(path)).to_pyarrow_table(columns=["user_id"])["user_id"].to_pylist()
        return sorted(found)


@pytest.fixture
def commands(secured: SecuredBroker, tmp_path: Path) -> Commands:
    """Records are in the topic, the account has no right yet."""
    project, home = copy_project(tmp_path / "project"), tmp_path / "home"
    keep_streams(project, "events", "high_value_users")
    account = topic = f"commands-{uuid.uuid4().hex[:8]}"
    for name in (topic, PUBLISHED):
        secured.ensure_topic(name)
    places = tmp_path / "secrets"
    places.mkdir()
    (places / "headrace_kafka_config").write_text(json.dumps(secured.add_account(account)))
    own = {
        "HEADRACE_HOME": str(home), "KAFKA_BOOTSTRAP_SERVERS": secured.sasl, "HEADRACE_TOPIC": topic,
        "HEADRACE_SECRETS_DIR": str(places), "HEADRACE_MAX_RECORD_BYTES": "1000", **ENVIRONMENT,
    }  # fmt: skip
    with secured.administrator() as kafka:
        producer = kafka.producer()
        for value in RECORDS:
            producer.produce(topic, value)
        assert producer.flush(60) == 0
    return Commands(secured, project, account, topic, {**os.environ, **own})


def read_published(kafka: KafkaResource, after: int) -> dict[str, bytes | None]:
    """The newest value of each user from an offset on; None for a tombstone."""
    return {str(json.loads(key)["user_id"]): value for _, key, value in read_all(kafka, PUBLISHED)[after:]}


def test_each_command_needs_the_rights_of_the_table_and_no_more(commands: Commands, secured: SecuredBroker) -> None:
    topic, everybody = commands.topic, [f"u{n}" for n in range(21)]
    with secured.administrator() as kafka:
        before = kafka.end_offsets(PUBLISHED)[0]  # another test may have published there
    offsets = f"{topic}/0/0-{len(RECORDS)}"

    assert f"refuses Describe on topic {topic} to the platform" in commands.refused("drain")
    commands.grant(topic, "READ")
    assert f"refuses Describe on topic {PUBLISHED}" in commands.refused("drain")
    commands.grant(PUBLISHED, "WRITE")
    commands.run("drain")
    assert commands.users("silver.events") == sorted(everybody[:20])

    # What was refused for its length is taken in: by whom may only see the topic.
    commands.revoke(topic, "READ")
    commands.revoke(PUBLISHED, "WRITE")
    taken = ("requeue", "--accept", "--because", "the limit was too low")
    assert f"refuses Describe on topic {topic}" in commands.refused(*taken)
    commands.grant(topic, "DESCRIBE")
    commands.run(*taken, HEADRACE_MAX_RECORD_BYTES="100000")
    assert commands.users("silver.events") == sorted(everybody)

    replayed = ("replay", "events", "--offsets", offsets)
    assert f"refuses Describe on topic {PUBLISHED}" in commands.refused(*replayed)
    commands.grant(PUBLISHED, "DESCRIBE")
    assert f"refuses Read on topic {topic}" in commands.refused(*replayed)
    commands.grant(topic, "READ")
    assert "20" in commands.run(*replayed)

    commands.grant(PUBLISHED, "WRITE")
    commands.revoke(topic, "READ")
    forgotten = ("forget-user", "u3", "--reason", "asked for")
    assert f"refuses DescribeConfigs on topic {topic}" in commands.refused(*forgotten)
    commands.grant(topic, "DESCRIBE_CONFIGS")
    commands.run(*forgotten)
    assert commands.users("silver.events") == sorted(set(everybody) - {"u3"})
    with secured.administrator() as kafka:
        found = read_published(kafka, before)
    assert {user for user, value in found.items() if value is None} == {"u3"} and len(found) == 21
