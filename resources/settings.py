"""Every setting, read in one place. A bad value is refused here, by its name, before anything starts.

Reads the process environment only (`.env` is read by Dagster and by the Makefile). The README's table of settings
lists these fields; a test compares the two.
"""

from __future__ import annotations

import functools
import os
import re
import warnings
from datetime import date
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from platform_assets import object_store
from platform_assets.errors import SettingError
from resources import (
    cluster_settings,
    mail_settings,
    postgres_settings,
    registry_settings,
    setting_values,
    web_address,
)
from resources.lakehouse_root import resolve_root
from resources.setting_values import refuse

_MLFLOW_LOG_IN = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
_Webhook = Annotated[SecretStr, refuse(web_address.find_trouble)]


class Settings(BaseSettings):
    """The platform's settings. Paths are absolute; durations carry their unit in the name."""

    model_config = SettingsConfigDict(
        env_prefix="HEADRACE_", extra="ignore", frozen=True, populate_by_name=True, allow_inf_nan=False
    )

    home: Annotated[
        Path, AfterValidator(setting_values.make_absolute), Field(description="Dagster home, broker data, logs, caches")
    ] = Path(".headrace")
    # Who may look at a process's environment (its user, a crash report, a container's inspection) reads what is there.
    secrets_dir: Annotated[
        str, Field(description="Folder of files named as settings are; each is the value of one that is not set here")
    ] = ""
    lakehouse: Annotated[
        str, Field(description="Root of all tables and checkpoints: a path, or s3://bucket/prefix")
    ] = ""
    # Neither this nor spark_conf is shown where settings are: both hold keys of object stores.
    storage_options: Annotated[
        dict[str, str],
        Field(repr=False, description="JSON; options of the lakehouse's object store, for every library"),
    ] = {}

    kafka_bootstrap_servers: Annotated[
        str, Field(validation_alias="KAFKA_BOOTSTRAP_SERVERS", description="Unset: the embedded broker")
    ] = ""
    kafka_config: Annotated[
        SecretStr, Field(description="JSON; librdkafka options such as security.protocol, sasl.*, ssl.*")
    ] = SecretStr("{}")
    kafka_port: Annotated[int, Field(ge=0, le=65535, description="Embedded broker's port; 0: any free one")] = 0
    # Kafka deletes whole segments of 256 MiB: a smaller limit would keep as much.
    kafka_partition_mib: Annotated[
        int, Field(ge=0, description="What each partition of the embedded broker keeps; 0: a share of the free disk")
    ] = 0
    schema_registry_url: Annotated[
        str,
        refuse(registry_settings.find_trouble),
        Field(description="Schema registry, with Confluent's API; embedded: Headrace's own; empty: none"),
    ] = ""
    schema_registry_config: Annotated[
        SecretStr,
        AfterValidator(setting_values.check_registry_config),
        Field(description="JSON; options of Confluent's client: basic.auth.*, bearer.auth.*, ssl.*"),
    ] = SecretStr("{}")
    schema_registry_port: Annotated[
        int, Field(ge=0, le=65535, description="Embedded schema registry's port; 0: any free one")
    ] = 0
    unknown_schemas: Annotated[
        Literal["wait", "quarantine"],
        Field(description="Records whose schema the registry does not give, for it does not answer"),
    ] = "wait"
    topic: Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]{1,249}$", description="Topic of shop events")] = (
        "ecommerce-events"
    )
    topic_partitions: Annotated[int, Field(ge=1, le=1000, description="Used when the topic is created")] = 3
    topic_replication: Annotated[
        int, Field(ge=1, le=100, description="Replicas of topics that `headrace topics --create` makes")
    ] = 1
    topic_time_zone: Annotated[
        str,
        AfterValidator(setting_values.check_zone),
        Field(description="Zone of the topic's timestamps without an offset, such as Europe/Berlin"),
    ] = "UTC"
    ahead_warn_share: Annotated[
        float, Field(ge=0, le=1, description="Check event_time: share of events dated 5 min ahead, where it warns")
    ] = 0.01
    ahead_error_share: Annotated[
        float, Field(ge=0, le=1, description="Check event_time: share of events dated 5 min ahead, where it fails")
    ] = 0.5
    standstill_minutes: Annotated[
        float, Field(gt=0, description="Check event_time: how long events may come while time stands still")
    ] = 30.0
    busy_user_share: Annotated[
        float, Field(gt=0, le=1, description="Check busy_users: share of a day's events above which it names a user")
    ] = 0.05
    # A person makes some hundred events a day; of a small shop's day one customer may well have half.
    busy_user_events: Annotated[
        int, Field(ge=1, description="Check busy_users: events of a day below which no user is named")
    ] = 1_000
    placeholder_ids: Annotated[
        str, Field(description="Texts that are no event_id, with commas between; empty: the usual ones")
    ] = ""
    anonymous_users: Annotated[
        str, Field(description="Texts that are a user_id of many, with commas between; empty: the usual ones")
    ] = ""
    revenue_from_price: Annotated[
        bool, Field(description="A purchase sent without revenue gets price × quantity (one where none was sent)")
    ] = False

    groups: Annotated[
        str, Field(min_length=1, description="Groups of streams that run, with commas between; all: every one")
    ] = "clickstream"
    starting_offsets: Annotated[
        Literal["earliest", "latest"], Field(description="Where a stream without a checkpoint begins")
    ] = "earliest"
    max_offsets_per_trigger: Annotated[int, Field(ge=1, description="Upper bound of one micro-batch, in records")] = (
        500_000
    )
    # A batch's time bounds how long a stop waits, and its new state must fit with what is there. At five times 2,000
    # events/s 300,000 rows are half a minute of backlog.
    max_rows_per_batch: Annotated[
        int, Field(ge=1, description="Rows that one micro-batch of a stream over a table reads of a backlog")
    ] = 300_000
    # Rows with long texts: what a task reads of a file is in memory, row group by row group.
    max_mib_per_batch: Annotated[
        int, Field(ge=1, description="MiB of files that one micro-batch of a stream over a table reads of a backlog")
    ] = 128
    trigger_seconds: Annotated[float, Field(ge=0, description="Interval of the stream `events`")] = 1.0
    real_time: Annotated[
        bool, Field(description="Relays pass records on in Spark's real-time mode; false: in batches, with one slot")
    ] = True
    # Between two batches nothing is passed on for half a second to a second: with a batch of a minute that is more than
    # one record in a hundred. What a relay joins is read with each batch, and is as old as the batch at its end.
    real_time_batch_seconds: Annotated[
        float,
        Field(ge=5, description="Length of a relay's batch in real-time mode: how often its tables are read anew"),
    ] = 120.0
    deduplication: Annotated[bool, Field(description="Take repeated event_ids out of silver.events")] = True
    deduplication_horizon_minutes: Annotated[
        int, Field(ge=1, description="How long an event_id is remembered, by arrival")
    ] = 60
    max_record_bytes: Annotated[int, Field(ge=1, description="A larger value is quarantined as oversized")] = 1_048_576

    # A batch of 200,000 records with its state and its files takes about 150 MiB; what is in flight must be finished.
    min_free_mib: Annotated[
        int, Field(ge=0, description="Free disk below which a stream group stops (and does not start); 0: no limit")
    ] = 512

    # Commits are kept for six hours: files that only older versions name can be reached by nobody.
    vacuum_hours: Annotated[
        int, Field(ge=1, description="How long files that a stream's table has replaced are kept for other readers")
    ] = 24

    # Checks and reports look at the last days only; the rest is for people who ask how it was.
    history_days: Annotated[
        int,
        Field(ge=7, le=36_500, description="Days for which the queries' progress and repaired late events are kept"),
    ] = 90

    backup_place: Annotated[
        str,
        AfterValidator(setting_values.check_backup_place),
        Field(description="Where nightly backups lie: a path, or s3://bucket/prefix; empty: none are made"),
    ] = ""
    backup_cron: Annotated[str, Field(description="When the nightly backup is made, UTC")] = "45 1 * * *"
    backups_kept: Annotated[int, Field(ge=1, description="Nightly backups that are kept, and one more at night")] = 7
    # A night's backup that took an hour longer than the last one is no trouble; a night without one is.
    backup_max_age_hours: Annotated[
        int, Field(ge=1, description="Check backup_restored: age of the newest proved backup, above which it fails")
    ] = 30

    retention_days: Annotated[
        dict[str, Annotated[int, Field(ge=1)]],
        Field(description="JSON; days that a stream's table keeps, by table; a table not named keeps all"),
    ] = {}

    first_day: Annotated[
        date,
        AfterValidator(setting_values.check_first_day),
        Field(description="The reports' first day (UTC), and the first that is closed: the shop's first event"),
    ] = date(2024, 1, 1)
    late_days: Annotated[
        int,
        Field(ge=1, description="Days before today that are looked at each night; older ones when they changed"),
    ] = 14

    reports_engine: Annotated[
        Literal["duckdb", "spark"],
        Field(description="What computes reports and parity: duckdb, in the run's process, or spark, on any master"),
    ] = "duckdb"
    # What does not fit is spilled to disk. Below 128 MiB DuckDB cannot hold what each of its threads is at work on.
    reports_memory_mib: Annotated[
        int, Field(ge=128, description="Memory of DuckDB for reports and parity; more goes to disk")
    ] = 1024

    telemetry_thresholds: Annotated[
        str, Field(description="CSV file of thresholds for gold.telemetry_anomalies; empty: those that ship")
    ] = ""

    fraud_precision: Annotated[
        float,
        Field(gt=0, lt=1, description="Share of alerts that is to be fraud: sets each new fraud model's threshold"),
    ] = 0.5
    # To hold a card is its issuer's decision: nobody's card is held before somebody has said from which score on.
    hold_score: Annotated[
        float, Field(ge=0, le=2, description="Score from which on an alert holds its card; above 1: none does")
    ] = 2.0
    # Who may write there is MLflow's own MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD: no part of the address.
    mlflow_tracking_uri: Annotated[
        str,
        refuse(partial(web_address.find_trouble, log_in=_MLFLOW_LOG_IN)),
        Field(description="MLflow server for the fraud model's versions; empty: files in the home"),
    ] = ""

    # A session ends with a pause of half an hour; what is cut must be longer than that.
    longest_session_hours: Annotated[
        int,
        Field(ge=1, description="What one user does for longer without a pause is cut into sessions, at whole days"),
    ] = 24

    publish: Annotated[bool, Field(description="Publish the streams that have a topic of their own to Kafka")] = True
    publish_transactional: Annotated[
        bool, Field(description="Publish each version of a table in one transaction of Kafka, exactly once")
    ] = False
    publish_format: Annotated[
        Literal["json", "avro", "protobuf", "json-schema"],
        Field(description="Values of published topics: plain JSON, or by a schema in the registry"),
        AfterValidator(setting_values.check_publish_format),
    ] = "json"
    # Readers of a published topic are updated after its schema has a new column: they go by the newest, old values too.
    publish_compatibility: Annotated[
        Literal[
            "BACKWARD", "BACKWARD_TRANSITIVE", "FORWARD", "FORWARD_TRANSITIVE", "FULL", "FULL_TRANSITIVE", "NONE",
            "UNCHANGED",
        ],
        Field(description="Compatibility mode of published topics' subjects; UNCHANGED: as the registry has it"),
    ] = "BACKWARD"  # fmt: skip
    idle_timeout_seconds: Annotated[
        float,
        Field(ge=0, description="Silence of the shop after which windows close by the clock; 0: never"),
    ] = 60.0
    # A round is a commit or two to each of the platform's tables: each second it would be 100,000 files a day.
    upkeep_seconds: Annotated[
        float, Field(ge=1, description="How often a group writes its history, repairs late events and keeps its tables")
    ] = 60.0

    # A query's batch takes two slots. With two in all, one long batch (a backlog) keeps all others from the machine,
    # ingest included; with four the system shares the cores among them.
    spark_master: Annotated[
        str, Field(min_length=1, description="Any Spark master"), AfterValidator(setting_values.check_spark_master)
    ] = "local[4]"
    spark_heap_mib: Annotated[int, Field(ge=512, description="JVM heap of one Spark application")] = 1024
    spark_conf: Annotated[
        dict[str, str],
        AfterValidator(setting_values.check_spark_conf),
        Field(repr=False, description="JSON; further Spark configuration, wins over ours"),
    ] = {}
    spark_secret: Annotated[
        SecretStr, Field(description="Cluster: what its master and workers have as spark.authenticate.secret")
    ] = SecretStr("")
    spark_encrypt: Annotated[
        bool,
        AfterValidator(setting_values.check_spark_encrypt),
        Field(description="Spark's processes prove who they are, and encrypt what they send and keep on local disks"),
    ] = False
    shuffle_partitions: Annotated[
        int,
        Field(ge=0, le=10_000, description="Parts of a new query's state, each a task; 0: 2, or the executors' cores"),
    ] = 0
    state_memory_mib: Annotated[int, Field(ge=16, description="RocksDB memory of all state stores together")] = 512

    # These are for a master other than local[N]: docs/cluster.md.
    executors: Annotated[int, Field(ge=1, le=10_000, description="Cluster: executors of one Spark application")] = 2
    executor_cores: Annotated[int, Field(ge=1, le=1_000, description="Cluster: task slots of one executor")] = 2
    executor_memory_mib: Annotated[int, Field(ge=512, description="Cluster: JVM heap of one executor")] = 1024
    executor_python: Annotated[
        str, Field(description="Cluster: Python on the workers, a name or a path; empty: python3.N, as here")
    ] = ""
    executor_archive: Annotated[
        str, Field(description="Cluster: archive that `headrace pack` makes for executors; empty: in the home")
    ] = ""
    driver_host: Annotated[
        str, Field(description="Cluster: address by which executors reach this machine; empty: its host name's")
    ] = ""
    driver_bind_address: Annotated[
        str, Field(description="Cluster: address on which the driver listens; empty: that of HEADRACE_DRIVER_HOST")
    ] = ""
    driver_port: Annotated[
        int, Field(ge=0, le=65535, description="Cluster: the driver's port for executors; 0: any free one")
    ] = 0
    driver_block_manager_port: Annotated[
        int, Field(ge=0, le=65535, description="Cluster: the driver's port for blocks of data; 0: any free one")
    ] = 0
    lakehouse_is_shared: Annotated[
        bool, Field(description="Cluster: a local HEADRACE_LAKEHOUSE is a mount that all machines have at this path")
    ] = False

    streaming_mode: Annotated[
        Literal["continuous", "scheduled"],
        Field(description="continuous: streams run all day; scheduled: they catch up at HEADRACE_DRAIN_CRON"),
    ] = "continuous"
    drain_cron: Annotated[str, Field(description="When streams catch up in scheduled mode, UTC")] = "*/15 * * * *"
    # Dagster's daemon looks at its sensors each five seconds, now a little more, now a little less: an interval of five
    # would make it pass over every second look.
    supervisor_interval_seconds: Annotated[int, Field(ge=1, description="Least time between two supervisor ticks")] = 4
    heartbeat_timeout_seconds: Annotated[int, Field(ge=5, description="Silence after which a run is suspect")] = 30
    stuck_timeout_seconds: Annotated[
        int, Field(ge=10, description="Time in one micro-batch after which a query is stuck, and its group restarted")
    ] = 600
    stop_grace_seconds: Annotated[int, Field(ge=1, description="Time for batches in flight at a stop")] = 60
    backoff_seconds: Annotated[float, Field(ge=0, description="First restart delay after a repeated failure")] = 5.0
    backoff_cap_seconds: Annotated[float, Field(ge=1, description="Longest restart delay")] = 300.0
    crash_loop_failures: Annotated[int, Field(ge=2, description="Failures that mark a crash loop")] = 5
    crash_loop_minutes: Annotated[int, Field(ge=1, description="Time in which these failures must fall")] = 15

    notify_url: Annotated[
        _Webhook, Field(description="Webhook that is told of trouble and of its end, as JSON; empty: none")
    ] = SecretStr("")

    postgres_url: Annotated[
        SecretStr,
        refuse(postgres_settings.find_trouble),
        Field(
            description="Postgres that keeps tables in step, as postgresql://user:password@host/database; empty: none"
        ),
    ] = SecretStr("")
    postgres_tables: Annotated[
        str,
        AfterValidator(setting_values.check_postgres_tables),
        Field(description="Silver and gold tables that are kept in step there, with commas between"),
    ] = ""
    postgres_schema: Annotated[
        str, Field(pattern=r"^[a-z_][a-z0-9_]{0,62}$", description="Schema of that Postgres in which its tables are")
    ] = "headrace"

    alerts: Annotated[
        str, Field(description="Alerts that are watched for: names with commas between, or all; empty: none")
    ] = ""
    alerts_topic: Annotated[
        str, Field(pattern=r"^[a-zA-Z0-9._-]{0,249}$", description="Kafka topic that is told of alerts; empty: none")
    ] = ""
    alerts_url: Annotated[_Webhook, Field(description="Webhook that is told of alerts, as JSON; empty: none")] = (
        SecretStr("")
    )
    alerts_smtp_url: Annotated[
        SecretStr,
        refuse(mail_settings.find_trouble),
        Field(description="Mail server that tells of alerts, as smtp://user:password@host or smtps://; empty: none"),
    ] = SecretStr("")
    alerts_mail_from: Annotated[
        str,
        refuse(partial(mail_settings.find_trouble_of_addresses, single=True)),
        Field(description="Address that these mails come from"),
    ] = ""
    alerts_mail_to: Annotated[
        str,
        refuse(mail_settings.find_trouble_of_addresses),
        Field(description="Addresses that they go to, with commas between"),
    ] = ""

    # Who asks for a user's recommendations learns something about the user: nobody can before somebody says so.
    recommendations_port: Annotated[
        int, Field(ge=0, le=65535, description="Port of `headrace recommend --serve` on 127.0.0.1; 0: it is off")
    ] = 0

    metrics_port: Annotated[
        int,
        Field(ge=0, le=65535, description="Port at which `headrace up` serves metrics for Prometheus; 0: it is off"),
    ] = 0
    # Metrics name tables and groups, and how much a shop sells can be read from their rates: no other machine reads
    # them before somebody says so. A container's network is such a case.
    metrics_address: Annotated[str, Field(min_length=1, description="Address at which metrics are served")] = (
        "127.0.0.1"
    )

    otlp_endpoint: Annotated[
        str,
        refuse(partial(web_address.find_trouble, log_in="set OTEL_EXPORTER_OTLP_HEADERS")),
        Field(description="Address at an OpenTelemetry collector to which metrics are pushed over OTLP; empty: none"),
    ] = ""

    openlineage_url: Annotated[
        str,
        refuse(partial(web_address.find_trouble, log_in="set HEADRACE_OPENLINEAGE_API_KEY instead")),
        Field(description="OpenLineage endpoint that is told of runs and what they read and write; empty: none"),
    ] = ""
    openlineage_namespace: Annotated[
        str, Field(min_length=1, description="Namespace of this platform's jobs at the OpenLineage endpoint")
    ] = "headrace"
    openlineage_api_key: Annotated[
        SecretStr, Field(description="Key with which the OpenLineage endpoint is called; empty: none")
    ] = SecretStr("")

    page_port: Annotated[
        int,
        Field(
            ge=0, le=65535,
            description="Port of the live page on 127.0.0.1, of `headrace page` and `make dev`; 0: none",
        ),
    ] = 3001  # fmt: skip

    ui_port: Annotated[int, Field(ge=1, le=65535, description="Port of the Dagster web UI")] = 3000

    _bounded = field_validator("*")(setting_values.check_bounds)

    @field_validator("drain_cron", "backup_cron")
    @classmethod
    def _readable_cron(cls, value: str, info: ValidationInfo) -> str:
        # Dagster is not imported where the default stands, as in each sender of events.
        return value if value == cls.model_fields[info.field_name or ""].default else setting_values.check_cron(value)

    def model_post_init(self, context: Any, /) -> None:
        """Derives the lakehouse root from the home when it is not set, and makes a local path absolute.

        Raises `ValueError` for a local path that the tables' reader does not open.
        """
        root = resolve_root(self)
        object.__setattr__(self, "lakehouse", root)
        if self.backup_place and "://" not in self.backup_place:
            object.__setattr__(self, "backup_place", str(Path(self.backup_place).expanduser().absolute()))
        if self.is_on_cluster:  # what only this machine's environment says no executor knows
            object.__setattr__(self, "storage_options", object_store.with_variables(root, self.storage_options))

    @property
    def is_on_cluster(self) -> bool:
        """Whether Spark's tasks run in executors, which may be on other machines, instead of in the driver."""
        return cluster_settings.is_cluster(self.spark_master)

    @property
    def dagster_home(self) -> Path:
        """The folder of Dagster's instance: `<home>/dagster`."""
        return self.home / "dagster"

    @property
    def runs_on_schedule(self) -> bool:
        """Whether streams catch up now and then instead of running all day."""
        return self.streaming_mode == "scheduled"

    @property
    def uses_embedded_broker(self) -> bool:
        """Whether Headrace starts its own broker."""
        return not self.kafka_bootstrap_servers


def _variable_of(field: str) -> str:
    alias = Settings.model_fields[field].validation_alias if field in Settings.model_fields else None
    return str(alias) if alias else f"HEADRACE_{field.upper()}"


@functools.cache
def load_settings() -> Settings:
    """Reads the settings from the environment and from the files of HEADRACE_SECRETS_DIR, once a process.

    Raises `SettingError`, one line a bad value, each with the variable's name and what it must be. Values are never
    repeated in the message: they may be secrets.
    """
    folder = os.environ.get("HEADRACE_SECRETS_DIR", "")
    if folder and not Path(folder).is_dir():
        raise SettingError(f"Bad setting. HEADRACE_SECRETS_DIR: {folder} is no folder. Make it, or unset the variable.")
    try:
        with warnings.catch_warnings():
            # Of a file that it does not read pydantic only warns: the setting's default would be taken.
            warnings.simplefilter("error", UserWarning)
            return Settings(_secrets_dir=folder or None)  # type: ignore[call-arg]  # pydantic's own, of no field
    except OSError as error:
        raise SettingError(f"Bad setting. HEADRACE_SECRETS_DIR: {error}") from None
    except ValidationError as error:
        # What no field's own check has found is what became of the lakehouse's root.
        fields = [(str((*e["loc"], "lakehouse")[0]), e["msg"]) for e in error.errors()]
        lines = [f"{_variable_of(field)}: {message}" for field, message in fields]
        raise SettingError("Bad setting. " + "; ".join(lines)) from None
    except SettingsError as error:
        if isinstance(error.__cause__, OSError | UnicodeDecodeError | UserWarning):  # a file that cannot be read
            raise SettingError(f"Bad setting. HEADRACE_SECRETS_DIR: {error.__cause__}") from None
        # A setting of JSON that is none.
        found = re.search(r'field "(\w+)"', str(error))
        name = _variable_of(found.group(1)) if found else str(error)
        raise SettingError(f"Bad setting. {name}: must be a JSON object") from None
    except ValueError as error:
        raise SettingError(f"Bad setting. {error}") from None
