"""`headrace forget-user` with sinks and alerts, as processes: the user leaves Postgres and platform.alerts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import psycopg2
import pytest
from deltalake import DeltaTable

from platform_assets.tables.platform import ALERTS
from resources.embedded.broker import BrokerState
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.integration.postgres_server import USER as ACCOUNT
from tests.integration.postgres_server import find_binaries, running_postgres
from tests.integration.supervised_platform import ROOT
from tests.integration.test_forget_user import OTHER, USER, build, visit
from tests.shop_lake import append_rows
from tests.short_lived_jvm import ENVIRONMENT

COPIED = ("silver.events", "gold.sessions")


@pytest.mark.release
@pytest.mark.timeout(1800)
@pytest.mark.skipif(find_binaries() is None, reason="Debian's package postgresql is not installed")
def test_a_forgotten_user_leaves_the_database_and_the_alerts(
    broker: BrokerState, kafka: KafkaResource, topic: Callable[..., str], tmp_path: Path
) -> None:
    name = topic(1)
    producer = kafka.producer()
    # Two visits each, of which the later one closes the session of the first.
    for value in [*visit(range(5)), *visit(range(120, 122)), build(USER, 121, "page_view", price="a text")]:
        producer.produce(name, value)
    assert producer.flush(30) == 0
    lakehouse = LakehouseResource.from_settings(Settings(home=tmp_path, lakehouse=str(tmp_path / "lakehouse")))
    with running_postgres() as port:
        url = f"postgresql://{ACCOUNT}@127.0.0.1:{port}/{ACCOUNT}"
        environment = {
            **os.environ, **ENVIRONMENT, "HEADRACE_HOME": str(tmp_path / "home"), "HEADRACE_TOPIC": name,
            "HEADRACE_LAKEHOUSE": lakehouse.root, "KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
            "HEADRACE_POSTGRES_URL": url, "HEADRACE_POSTGRES_TABLES": ",".join(COPIED),
            "HEADRACE_ALERTS": "events_refused",
        }  # fmt: skip

        def run(*command: str) -> None:
            done = subprocess.run(
                [sys.executable, "-m", "jobs.cli", *command],
                cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stdout + done.stderr

        def list_copied(table: str) -> list[str]:
            with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
                cursor.execute(f"SELECT user_id FROM headrace.{table.replace('.', '_')}")
                return sorted(user for (user,) in cursor.fetchall())

        def list_rows(table: str) -> list[str]:
            rows = DeltaTable(lakehouse.table_uri(table)).to_pyarrow_table(columns=["user_id"])
            return sorted(rows["user_id"].to_pylist())

        run("drain")
        for table in COPIED:
            assert list_copied(table) == list_rows(table) and set(list_copied(table)) == {USER, OTHER}
        now = datetime.now(UTC)
        alerts = [
            {
                "alert_id": f"of-{user}", "alert": "too_much", "key": user, "transition": "opened", "at": now,
                "severity": "warning", "owner": "shop", "text": f"{user} buys", "rows": 1, "raised_at": now,
                "user_id": user,
            }
            for user in (USER, OTHER)
        ]  # fmt: skip
        append_rows(lakehouse, ALERTS, alerts)

        run("forget-user", USER, "--reason", "asked for")
        for table in COPIED:
            assert list_copied(table) == list_rows(table) and set(list_copied(table)) == {OTHER}
        kept = DeltaTable(lakehouse.table_uri(ALERTS.name)).to_pyarrow_table().to_pylist()
        assert [row["user_id"] for row in kept if row["alert"] == "too_much"] == [OTHER]
        # The groups go on from there.
        for value in visit(range(300, 301)):
            producer.produce(name, value)
        assert producer.flush(30) == 0
        run("drain")
        for table in COPIED:
            assert list_copied(table) == list_rows(table) and set(list_copied(table)) == {OTHER}
