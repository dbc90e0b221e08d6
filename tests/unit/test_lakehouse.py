"""The locations of tables and checkpoints, and the error when they cannot be opened."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from platform_assets.errors import SettingError, StorageError
from resources.lakehouse import LakehouseResource, normalize_root
from resources.settings import Settings, load_settings


@pytest.mark.parametrize(
    ("root", "normalized"),
    [
        ("/data/lake/", "/data/lake"),
        ("file:/data/lake", "/data/lake"),
        ("file:///data/my%20lake/", "/data/my lake"),
        ("s3a://bucket/lake/", "s3://bucket/lake"),
        ("s3://bucket/", "s3://bucket"),
        ("abfss://c@account.dfs.core.windows.net/lake", "abfss://c@account.dfs.core.windows.net/lake"),
    ],
)
def test_root_has_one_spelling(root: str, normalized: str) -> None:
    assert normalize_root(root) == normalized


def test_relative_root_is_below_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert normalize_root("lake") == str(tmp_path / "lake")


def test_paths_follow_from_the_name(tmp_path: Path) -> None:
    lakehouse = LakehouseResource.from_settings(Settings(home=tmp_path, kafka_bootstrap_servers=""))
    assert lakehouse.table_uri("silver.events") == f"{tmp_path}/lakehouse/silver/events"
    assert lakehouse.checkpoint_uri("silver.events") == f"{tmp_path}/lakehouse/_checkpoints/silver/events"
    assert not (tmp_path / "lakehouse").exists()


def test_remote_root_has_no_local_side() -> None:
    lakehouse = LakehouseResource(root="gs://bucket/lake")
    lakehouse.check_writable()
    assert lakehouse.free_bytes() is None
    assert lakehouse.table_uri("gold.sessions") == "gs://bucket/lake/gold/sessions"


def test_writable_root_is_created_and_left_empty(tmp_path: Path) -> None:
    lakehouse = LakehouseResource(root=str(tmp_path / "a" / "b"))
    free = lakehouse.free_bytes()
    lakehouse.check_writable()
    assert list((tmp_path / "a" / "b").iterdir()) == []
    assert free is not None
    assert free > 0


def test_root_that_is_a_file_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "lake").write_text("")
    with pytest.raises(StorageError, match=f"{tmp_path}/lake cannot be written.*HEADRACE_LAKEHOUSE"):
        LakehouseResource(root=str(tmp_path / "lake")).check_writable()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_is_noticed_although_an_empty_file_fits(tmp_path: Path) -> None:
    (tmp_path / f".headrace-probe-{os.getpid()}").symlink_to("/dev/full")
    with pytest.raises(StorageError, match="No space left on device"):
        LakehouseResource(root=str(tmp_path)).check_writable()


@pytest.mark.parametrize("name", ["a%20b", "a[1]", "file:///data/a%5B1", "a\\b", "a|b", "a^b", "a?", "a #1", "a\tb"])
def test_a_root_that_no_table_can_be_read_at_is_refused_by_its_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_LAKEHOUSE", name)
    load_settings.cache_clear()
    with pytest.raises(SettingError, match=r"HEADRACE_LAKEHOUSE: .*tables cannot be read at a path that has"):
        load_settings()
    load_settings.cache_clear()


@pytest.mark.parametrize("name", ["a b", "100%", "50%off", "it's", "file:///data/my%20lake", "s3a://bucket/a=b/c.d"])
def test_other_roots_are_taken(name: str) -> None:
    assert Settings(lakehouse=name, kafka_bootstrap_servers="").lakehouse.endswith(name)
