"""The file that has the password of Dagster's Postgres; the storage itself is in the tests of the container stack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from dagster_postgres import DagsterPostgresStorage

from jobs.supervision.postgres_storage import PostgresStorage
from platform_assets.errors import SettingError


def _read(password_file: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The parent's configuration, as it is made of ours; nobody is contacted."""
    seen: list[Any] = []
    monkeypatch.setattr(DagsterPostgresStorage, "from_config_value", lambda _data, value: seen.append(value))
    database = {"username": "dagster", "hostname": "postgres", "db_name": "dagster", "port": 5432}
    PostgresStorage.from_config_value(None, {"password_file": str(password_file), "postgres_db": database})
    return seen[0]


def test_the_password_is_the_files_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "password"
    file.write_text("pa ss/word?\n")
    config = _read(file, monkeypatch)
    assert config["postgres_db"]["password"] == "pa ss/word?"
    assert "password_file" not in config


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff\xfe"])
def test_a_file_without_a_password_is_named(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingError, match="POSTGRES_PASSWORD_FILE") as error:
        _read(file, monkeypatch)
    assert str(file) in str(error.value)
