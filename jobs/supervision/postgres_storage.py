"""Dagster's storage on Postgres, with the password in a file, as Docker and Kubernetes mount secrets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from dagster import Field, StringSource
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage

from platform_assets.errors import SettingError


class PostgresStorage(DagsterPostgresStorage):
    """The storage of dagster-postgres, which takes its password from an option or from the environment only.

    `dagster.yaml` names it as `storage: custom`, with the options of `storage: postgres` and `password_file`.
    """

    @classmethod
    def config_type(cls) -> Mapping[str, Any]:
        """The parent's options, and `password_file`."""
        parent: Any = super().config_type()
        return {**parent, "password_file": Field(StringSource)}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> Any:
        """Called by Dagster in each process that opens the instance. Raises `SettingError` for a file without one."""
        options = {name: value for name, value in config_value.items() if name != "password_file"}
        options["postgres_db"] = {**options["postgres_db"], "password": _read(Path(config_value["password_file"]))}
        return super().from_config_value(inst_data, cast(Any, options))


def _read(path: Path) -> str:
    try:
        password = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(
            f"The password of Dagster's Postgres cannot be read from {path} (POSTGRES_PASSWORD_FILE): {error}."
        ) from None
    if not password:
        raise SettingError(f"{path} (POSTGRES_PASSWORD_FILE) is empty: write the password of Dagster's Postgres there.")
    return password
