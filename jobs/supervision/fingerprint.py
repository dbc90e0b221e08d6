"""A short hash of what a streaming run is made of: the supervisor replaces a run with another hash."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import jobs.supervision
from platform_assets.streaming.stream_spec import StreamGroup
from resources.settings import Settings

# Settings that say where people look or how patient the supervisor is; a host does not read them.
_NOT_THE_HOSTS = frozenset(
    {
        "ui_port",
        "secrets_dir",  # what is read there counts
        "metrics_port",
        "metrics_address",
        "otlp_endpoint",
        "openlineage_url",
        "openlineage_namespace",
        "openlineage_api_key",
        # One more group is no reason to restart the others.
        "groups",
        "notify_url",
        "streaming_mode",
        "drain_cron",
        "supervisor_interval_seconds",
        "heartbeat_timeout_seconds",
        "stuck_timeout_seconds",
        "backoff_seconds",
        "backoff_cap_seconds",
        "crash_loop_failures",
        "crash_loop_minutes",
        "reports_engine",
        "reports_memory_mib",
        "recommendations_port",
    }
)
# A table more in a database is no reason to restart the streams.
_OF_SINKS = frozenset({"postgres_url", "postgres_tables", "postgres_schema"})
_OF_ALERTS = frozenset(
    {"alerts", "alerts_topic", "alerts_url", "alerts_smtp_url", "alerts_mail_from", "alerts_mail_to"}
)
# All that the streaming job imports: a test holds this list against the imports. Reports and checks are not among it,
# but for what recommendations in a session take: a change of one would restart the streams.
_CODE = (
    "platform_assets/tables",
    "platform_assets/streaming",
    "platform_assets/groups",
    "platform_assets/topics",
    "platform_assets/streams",
    "platform_assets/relays",
    "platform_assets/sinks",
    "platform_assets/publishing",
    "platform_assets/alerting",
    "platform_assets/alerts",
    "platform_assets/fraud",
    "platform_assets/delta_reader.py",
    "platform_assets/errors.py",
    "platform_assets/folders.py",
    "platform_assets/int96_files.py",
    "platform_assets/kafka_errors.py",
    "platform_assets/kafka_replication.py",
    "platform_assets/object_files.py",
    "platform_assets/object_store.py",
    "platform_assets/registered_tables.py",
    "platform_assets/store_errors.py",
    "platform_assets/reports/concurrent_runs.py",
    "platform_assets/reports/days.py",
    "platform_assets/reports/whole/interactions.py",
    "platform_assets/reports/whole/recommendation_tables.py",
    "platform_assets/reports/whole/session_update.py",
    "platform_assets/reports/whole/whole_commit.py",
    "resources",
    "jobs/definitions/streaming_job.py",
    "jobs/operations/stream_groups.py",
    "jobs/supervision",
)


def build_fingerprint(group: StreamGroup, settings: Settings) -> str:
    """Twelve hex digits over the package version, the code a host runs, the group's streams and the host's settings.

    Secret settings take part by their value and cannot be read back from the digits.
    """
    secrets = {"kafka_config": settings.kafka_config, "schema_registry_config": settings.schema_registry_config}
    left_out = set(_NOT_THE_HOSTS)
    if group.sinks:
        secrets["postgres_url"] = settings.postgres_url
    else:
        left_out |= _OF_SINKS
    if group.alerts:
        secrets |= {"alerts_url": settings.alerts_url, "alerts_smtp_url": settings.alerts_smtp_url}
    else:
        left_out |= _OF_ALERTS
    values = settings.model_dump(mode="json", exclude=left_out | secrets.keys())
    values |= {name: secret.get_secret_value() for name, secret in secrets.items()}
    streams = [*group.query_names, *map(repr, group.sinks), *(repr(stream.main_table) for stream in group.published)]
    text = json.dumps([hash_code(), group.name, streams, values], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@cache
def hash_code() -> str:
    """Hashes the code once a process: a code server keeps the code it has loaded, whatever is saved meanwhile."""
    root = Path(jobs.supervision.__file__).parents[2]
    digest = hashlib.sha256(importlib.metadata.version("dagster").encode())
    for path in find_sources(root, _CODE):
        digest.update(path.relative_to(root).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


_SOURCES = frozenset({".py", ".toml", ".lock", ".xml", ".properties", ".sh"})


def find_sources(root: Path, names: Iterable[str]) -> list[Path]:
    """The files by whose contents a process behaves as it does, in order: of a checkout these, and all below these."""
    found = (path for name in names for path in ((root / name).rglob("*") if (root / name).is_dir() else [root / name]))
    return sorted(path for path in found if path.suffix in _SOURCES)
