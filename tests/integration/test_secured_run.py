"""The whole platform over servers that trust nobody: what refuses it, how it goes on; no secret is anywhere."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from deltalake.exceptions import TableNotFoundError

from jobs.supervision.lease import write_control
from jobs.supervision.stream_context import build_stream_context
from platform_assets.streams import load_streams
from resources.embedded.registry import find_registry
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource
from resources.registry.schema_registry import SchemaRegistry
from resources.settings import Settings, load_settings
from resources.spark.session import SparkResource
from tests.copied_project import copy_project, keep_streams
from tests.integration.postgres_server import dump_database, find_binaries, running_postgres
from tests.integration.supervised_platform import ROOT, wait_for
from tests.integration.test_watermarks import purchase
from tests.planted_secrets import PlantedSecrets, list_secret_settings, read_files, read_processes, write_secrets
from tests.registry_servers import Handler, forward, reply, serving
from tests.s3_server import BUCKET, running_s3
from tests.secured_broker import Certificates, SecuredBroker, topic_rights
from tests.short_lived_jvm import SPARK_CONF

STREAMS = ("events", "high_value_users")
GROUP, PUBLISHED, PARTITIONS = "clickstream", "high-value-users", 3
NOON = datetime(2024, 2, 29, 12, tzinfo=UTC)
# Short enough to wait for, and longer than the change of the certificate takes.
VALID_SECONDS = 8
SNAPSHOT = """\
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster._serdes import serialize_value
from platform_assets.definitions import defs
print(serialize_value(RepositorySnap.from_def(defs().get_repository_def())))
"""


@dataclass
class SecuredRun:
    """The platform in a copy of the project, by `headrace up`, and what stands around it."""

    broker: SecuredBroker
    account: str
    topic: str
    shown: Path
    """The folder of the certificate that the platform shows."""
    project: Path
    planted: PlantedSecrets
    environment: dict[str, str]
    settings: Settings
    instance: dg.DagsterInstance
    told: list[bytes]
    seen: dict[str, bytes] = field(default_factory=dict)
    sent: int = 0

    @contextmanager
    def up(self) -> Iterator[None]:
        """`headrace up` for the block; what its processes show to others is looked at all the time."""
        with (self.settings.home / "up.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "jobs.cli", "up"], cwd=self.project, env=self.environment, stdout=log, stderr=log
            )
        over = threading.Event()
        looking = threading.Thread(target=self._look, args=(process.pid, over))
        looking.start()
        try:
            yield
            assert process.poll() is None, (self.settings.home / "up.log").read_text()
        finally:
            over.set()
            looking.join()
            process.send_signal(signal.SIGTERM)
            assert process.wait(180) == 0

    def _look(self, pid: int, over: threading.Event) -> None:
        while not over.wait(2.0):
            self.seen |= read_processes(pid)

    def send(self, records: int) -> None:
        """Sends purchases by an administrator, and waits until the broker has them."""
        with self.broker.administrator() as kafka:
            producer = kafka.producer()
            for number in range(self.sent, self.sent + records):
                value = purchase(number, NOON, user_id=f"u{number}", revenue=150.0)
                producer.produce(self.topic, value, partition=number % PARTITIONS)
            assert producer.flush(120) == 0
        self.sent += records

    def coordinates(self) -> list[tuple[int, int]]:
        """The coordinates of each row of `silver.events`, sorted."""
        try:
            table = LakehouseResource.from_settings(self.settings).delta_table("silver.events")
        except TableNotFoundError:
            return []
        rows = table.to_pyarrow_table(columns=["kafka_partition", "kafka_offset"]).to_pylist()
        return sorted((row["kafka_partition"], row["kafka_offset"]) for row in rows)

    def await_rows(self) -> None:
        """Waits until all that was sent is in the table; it must be there once."""
        wait_for(lambda: len(self.coordinates()) >= self.sent, "all that was sent is in the table")
        expected = [(number % PARTITIONS, number // PARTITIONS) for number in range(self.sent)]
        assert self.coordinates() == sorted(expected)

    def await_line(self, says: str) -> None:
        """Waits until a tick says why the group does not run, in one line, and demands it of the logs too."""

        def find() -> str | None:
            for state in self.instance.all_instigator_state():
                for tick in self.instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=3):
                    if says in (text := tick.tick_data.skip_reason or ""):
                        return text
            return None

        said = wait_for(find, f"a tick says: {says}")
        assert len([line for line in said.splitlines() if says in line]) == 1 and "Traceback" not in said, said

    def published(self) -> int:
        """Records in the published topic."""
        with self.broker.administrator() as kafka:
            return sum(kafka.end_offsets(PUBLISHED).values())

    def show_certificate(self, until: datetime) -> None:
        """Gives the platform another certificate to show to the broker, in the place of the one before."""
        put_certificate(self.broker, self.account, self.shown, until)


def put_certificate(broker: SecuredBroker, account: str, place: Path, until: datetime) -> None:
    """Puts a client's certificate and its key in place in one step, as Kubernetes does with mounted secrets.

    With two steps a platform that begins between them has a key that does not fit.
    """
    file = f"{account}-{uuid.uuid4().hex[:8]}"
    broker.certificates.issue(account, until=until, file=file)
    folder = broker.certificates.folder / f"of-{file}"
    folder.mkdir()
    for name in ("", "-key"):
        (broker.certificates.folder / f"{file}{name}.pem").rename(folder / f"certificate{name}.pem")
    link = place.with_name(f"{place.name}.new")
    link.symlink_to(folder)
    link.replace(place)


@pytest.fixture
def secured_run(
    secured: SecuredBroker, schema_registry: SchemaRegistry, fresh_settings: None, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[SecuredRun]:  # fmt: skip
    """Kafka, Postgres, the object store, the registry and a webhook know the platform by planted secrets."""
    planted, told = PlantedSecrets(), list[bytes]()
    account = topic = f"platform-{uuid.uuid4().hex[:8]}"
    _prepare_broker(secured, account, topic)
    project, home = copy_project(tmp_path / "project", "workspace.yaml"), tmp_path / "home"
    keep_streams(project, *STREAMS)
    with ExitStack() as stack:
        port = stack.enter_context(running_postgres(planted.plant("postgres")))
        store = stack.enter_context(running_s3(planted.plant("storage_options")))
        log_in = f"shop:{planted.plant('schema_registry_config')}"
        knows = f"Basic {base64.b64encode(log_in.encode()).decode()}"
        registry = stack.enter_context(serving(forward(schema_registry.access.urls[0], knows)))
        webhook = stack.enter_context(serving(lambda request: _take(request, told)))
        shown = tmp_path / "shown"
        put_certificate(secured, account, shown, datetime.now(UTC) + timedelta(days=1))
        kafka = secured.add_account(account) | {
            "ssl.certificate.location": str(shown / "certificate.pem"),
            "ssl.key.location": str(shown / "certificate-key.pem"),
        }
        planted.plant("kafka_config", kafka["sasl.password"])
        planted.plant("the client's key", (shown / "certificate-key.pem").read_text().splitlines()[2])
        spark_conf = {
            **SPARK_CONF, "spark.hadoop.headrace.test.password": planted.plant("spark_conf"),
            "spark.eventLog.enabled": "true", "spark.eventLog.compress": "false",
            "spark.eventLog.dir": (home / "spark-events").as_uri(),
        }  # fmt: skip
        files = {
            "kafka_config": kafka, "storage_options": store.options, "spark_conf": spark_conf,
            "schema_registry_config": {"basic.auth.user.info": log_in},
            "spark_secret": planted.plant("spark_secret"), "openlineage_api_key": planted.plant("openlineage_api_key"),
            "notify_url": f"{webhook}/{planted.plant('notify_url')}",
            "alerts_url": f"{webhook}/{planted.plant('alerts_url')}",
            # Nobody listens there: what cannot be sent is named, without the log-in.
            "alerts_smtp_url": f"smtp://shop:{planted.plant('alerts_smtp_url')}@127.0.0.1:9",
            "postgres_url": f"postgresql://dagster:{planted.plant('postgres_url', planted.values['postgres'])}"
            f"@127.0.0.1:{port}/dagster",
        }  # fmt: skip
        write_secrets(tmp_path / "secrets", files)
        values = {
            "PYTHONPATH": str(project), "HEADRACE_HOME": str(home), "HEADRACE_TOPIC": topic,
            "KAFKA_BOOTSTRAP_SERVERS": secured.sasl,
            "HEADRACE_SECRETS_DIR": str(tmp_path / "secrets"), "HEADRACE_LAKEHOUSE": f"s3://{BUCKET}/secured",
            "HEADRACE_SCHEMA_REGISTRY_URL": registry, "HEADRACE_PUBLISH_FORMAT": "avro",
            "HEADRACE_SPARK_ENCRYPT": "true", "HEADRACE_SPARK_HEAP_MIB": "768", "HEADRACE_TRIGGER_SECONDS": "0.5",
            "HEADRACE_ALERTS": "events_refused", "HEADRACE_ALERTS_MAIL_FROM": "shop@example.com",
            "HEADRACE_ALERTS_MAIL_TO": "shop@example.com",
            "HEADRACE_BACKOFF_SECONDS": "7", "HEADRACE_BACKOFF_CAP_SECONDS": "7",
            "POSTGRES_PASSWORD_FILE": str(tmp_path / "postgres_password"), "POSTGRES_HOST": "127.0.0.1",
            "POSTGRES_PORT": str(port), "MLFLOW_TRACKING_PASSWORD": planted.plant("mlflow"),
            "OTEL_EXPORTER_OTLP_HEADERS": f"api-key={planted.plant('otlp')}", "DAGSTER_HOME": str(home / "dagster"),
        }  # fmt: skip
        _write_instance(home, planted.values["postgres"])
        for name, value in values.items():
            monkeypatch.setenv(name, value)
        with dg.DagsterInstance.get() as instance:
            yield SecuredRun(
                secured,
                account,
                topic,
                shown,
                project,
                planted,
                {**os.environ, "HEADRACE_POSTGRES_TABLES": "silver.events"},
                load_settings(),
                instance,
                told,
            )
            _demand_silence(planted, "the database", dump_database(port, planted.values["postgres"]))


def _demand_silence(planted: PlantedSecrets, name: str, text: bytes) -> None:
    assert len(text) > 10_000 and planted.find([(name, text)]) == []


def _prepare_broker(broker: SecuredBroker, account: str, topic: str) -> None:
    broker.ensure_topic(topic, PARTITIONS)
    broker.ensure_topic(PUBLISHED)
    broker.grant(*topic_rights(account, topic, "READ"), *topic_rights(account, PUBLISHED, "WRITE"))


def _write_instance(home: Path, password: str) -> None:
    """The instance of docker-compose.yml."""
    for folder in (home / "dagster", home / "spark-events"):
        folder.mkdir(parents=True)
    shutil.copy(ROOT / "deploy" / "dagster.yaml", home / "dagster")
    (home.parent / "postgres_password").write_text(password)  # no log or table is outside of the home


def _take(request: Handler, told: list[bytes]) -> None:
    told.append(request.path.encode() + request.rfile.read(int(request.headers.get("Content-Length", 0))))
    reply(request, {})


@pytest.mark.release
@pytest.mark.timeout(1800)
@pytest.mark.skipif(find_binaries() is None, reason="Debian's package postgresql is not installed")
def test_each_refusal_is_one_line_the_streams_go_on_by_themselves_and_no_secret_is_seen(
    secured_run: SecuredRun, tmp_path: Path
) -> None:
    run, broker = secured_run, secured_run.broker
    before = run.published()
    password = json.loads((tmp_path / "secrets" / "headrace_kafka_config").read_text())["sasl.password"]
    run.send(30)
    try:
        with run.up():
            run.await_rows()
            wait_for(lambda: run.published() > before, "rows are published by a schema of the registry")

            # The certificate expires while the query runs, and what was connected has to connect anew.
            until = datetime.now(UTC) + timedelta(seconds=VALID_SECONDS)
            broker.renew_certificate(until)
            run.send(30)
            run.await_rows()
            wait_for(lambda: datetime.now(UTC) > until, "the certificate has expired")
            broker.stop()
            broker.start()
            run.send(30)
            run.await_line(f"The certificate of Kafka's broker at {broker.sasl} has expired.")
            # Of the query that died too, which has heard it from the Java client.
            assert b"is not proved by" not in (run.settings.home / "logs" / "code-server.log").read_bytes()

            broker.renew_certificate(host="elsewhere.test")
            run.await_line(f"Kafka's broker at {broker.sasl} is of another host name.")
            broker.renew_certificate(by=Certificates(tmp_path / "others"))
            run.await_line("is not proved by the authority in ssl.ca.location")
            broker.set_password(run.account, "changed")
            broker.renew_certificate()
            run.await_line("Kafka refuses the log-in")
            until = datetime.now(UTC) + timedelta(seconds=2)
            run.show_certificate(until)
            wait_for(lambda: datetime.now(UTC) > until, "the platform's certificate has expired")
            broker.set_password(run.account, password)
            run.await_line("Kafka's broker refuses this client's certificate")
            run.show_certificate(datetime.now(UTC) + timedelta(days=1))
            run.await_rows()

            write_control(run.instance, GROUP, "pause", by="a test")
            told = f"/{run.planted.values['notify_url']}".encode()
            wait_for(
                lambda: any(each.startswith(told) for each in run.told), "the webhook is told that the group is held"
            )
    finally:
        broker.renew_certificate()
    _demand_no_secret(run)


def _demand_no_secret(run: SecuredRun) -> None:
    """No planted secret is in a log, in a table, in a plan, on a command line or in what objects say of themselves."""
    assert list_secret_settings() <= run.planted.values.keys()
    files = list(read_files(run.settings.home))
    names = " ".join(name for name, _ in files)
    assert all(kind in names for kind in ("daemon.log", "code-server.log", "logs/spark/stream-", "spark-events"))
    lake = LakehouseResource.from_settings(run.settings).folder
    shown = dict(run.seen)
    of_environment = {"postgres", "mlflow", "otlp"}  # they were put there, and are those libraries' own variables
    found = run.planted.find([*files, *_show_objects(run), *shown.items(), ("definitions", _take_snapshot(run))])
    found += run.planted.find((path, lake.read_file(path) or b"") for path in lake.list_files())
    assert [each for each in found if not ("/environ" in each and each.split(" in ")[0] in of_environment)] == []
    assert any("cmdline of java" in name for name in shown) and any("environ of java" in name for name in shown)


def _show_objects(run: SecuredRun) -> list[tuple[str, bytes]]:
    settings = run.settings
    with KafkaResource.from_settings(settings) as kafka:
        lakehouse = LakehouseResource.from_settings(settings)
        streams = [stream for stream in load_streams() if stream.name in STREAMS]
        context = build_stream_context(settings, kafka, lakehouse, streams)
        assert context.publish_target is not None
        objects = (
            settings, kafka, lakehouse, SparkResource.from_settings(settings), find_registry(settings), context,
            context.read_records, context.publish_target, run.instance,
        )  # fmt: skip
        return [(type(each).__name__, f"{each!r} {each}".encode()) for each in objects]


def _take_snapshot(run: SecuredRun) -> bytes:
    """What Dagster's web server is told of the definitions."""
    done = subprocess.run(
        [sys.executable, "-c", SNAPSHOT], cwd=run.project, env=run.environment, capture_output=True, check=True
    )
    assert len(done.stdout) > 10_000
    return done.stdout
