"""What single settings may say. Each check returns the value as it is used, or raises `ValueError` without it.

With `info` a check sees the fields that stand before its own: one that was refused itself is not among them.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, SecretStr, ValidationInfo

from platform_assets import object_store
from resources import cluster_settings, postgres_settings, registry_settings
from resources.spark import encryption

# What is longer or more than this is a mistyped unit, and ends in an overflow of a clock or of a counter.
_AT_MOST = {
    "_seconds": 366 * 24 * 3600, "_minutes": 366 * 24 * 60, "_hours": 10 * 366 * 24, "_days": 100 * 366,
    "_mib": 16 * 1024 * 1024,
}  # fmt: skip
_COUNTS_AT_MOST = 2**31 - 1


def refuse(find_trouble: Callable[[str], str]) -> AfterValidator:
    """The check of a text, secret or not, that refuses what a function finds wrong with it, in the function's words."""

    def check(value: str | SecretStr) -> str | SecretStr:
        if trouble := find_trouble(value.get_secret_value() if isinstance(value, SecretStr) else value):
            raise ValueError(trouble)
        return value

    return AfterValidator(check)


def check_bounds(value: Any, info: ValidationInfo) -> Any:
    """Refuses a number that is too large for its unit, by which the field's name ends."""
    name = info.field_name or ""
    limit = next((limit for unit, limit in _AT_MOST.items() if name.endswith(unit)), _COUNTS_AT_MOST)
    for number in value.values() if isinstance(value, dict) else (value,):
        if isinstance(number, int | float) and number > limit:
            raise ValueError(f"must be at most {limit:,}")
    return value


def make_absolute(value: Path) -> Path:
    """The path with the home of `~`, from this folder on."""
    return value.expanduser().absolute()


def check_zone(value: str) -> str:
    """Refuses what is no time zone."""
    try:
        return ZoneInfo(value).key
    except (ValueError, OSError, ZoneInfoNotFoundError):
        raise ValueError("no zone of the time zone database; write one such as Europe/Berlin, or UTC") from None


def check_first_day(value: date) -> date:
    """Refuses a day to come."""
    if value > datetime.now(UTC).date():
        raise ValueError("must not lie in the future: there would be no report")
    return value


def check_cron(value: str) -> str:
    """Refuses what Dagster, which reads it later, cannot read."""
    from dagster import DagsterInvalidDefinitionError, ScheduleDefinition

    try:
        ScheduleDefinition(name="probe", job_name="probe", cron_schedule=value)
    except DagsterInvalidDefinitionError:
        raise ValueError("no cron schedule that Dagster reads; write one such as */15 * * * *") from None
    return value


def check_backup_place(value: str, info: ValidationInfo) -> str:
    """Refuses a place whose address holds a log-in, or whose store commits unsafely."""
    if trouble := object_store.find_trouble_of_a_place(value, info.data.get("storage_options", {})):
        raise ValueError(trouble)
    return value


def check_spark_master(value: str, info: ValidationInfo) -> str:
    """Refuses what Spark does not start with, and executors elsewhere that would need this machine's broker."""
    if trouble := cluster_settings.find_trouble(value):
        raise ValueError(trouble)
    if not info.data.get("kafka_bootstrap_servers") and cluster_settings.is_elsewhere(value):
        raise ValueError("no executor reaches the embedded broker of this machine: set KAFKA_BOOTSTRAP_SERVERS")
    return value


def check_spark_conf(value: dict[str, str]) -> dict[str, str]:
    """Refuses a master: by it one on other machines would be taken without its archive."""
    if "spark.master" in value:
        raise ValueError("spark.master is what HEADRACE_SPARK_MASTER says: set it there")
    return value


def check_spark_encrypt(value: bool, info: ValidationInfo) -> bool:
    """Refuses encryption without the secret that the master needs for it."""
    master, secret = info.data.get("spark_master", ""), info.data.get("spark_secret", SecretStr(""))
    if value and master and (trouble := encryption.find_trouble(master, secret.get_secret_value())):
        raise ValueError(trouble)
    return value


def check_postgres_tables(value: str, info: ValidationInfo) -> str:
    """Refuses tables without a database; an address that was refused has its own message."""
    url = info.data.get("postgres_url")
    if postgres_settings.split_tables(value) and url is not None and not url.get_secret_value():
        raise ValueError("there is no database for these tables: set HEADRACE_POSTGRES_URL")
    return value


def check_registry_config(value: SecretStr, info: ValidationInfo) -> SecretStr:
    """Refuses options that the registry's client does not know, or that its addresses cannot use."""
    registry_settings.parse_options(value.get_secret_value(), info.data.get("schema_registry_url", ""))
    return value


def check_publish_format(value: str, info: ValidationInfo) -> str:
    """Refuses a format with schemas where there is no registry for them."""
    if value != "json" and not info.data.get("schema_registry_url"):
        raise ValueError("schemas need a registry: set HEADRACE_SCHEMA_REGISTRY_URL to its address, or to embedded")
    return value
