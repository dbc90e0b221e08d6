"""The options by which a JVM uses the archive of Spark's classes, where there is one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from resources.class_archive import archive_path, jvm_options
from resources.settings import Settings
from resources.spark_configuration import spark_conf


def test_without_an_archive_nothing_is_asked_of_the_jvm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert jvm_options() == []
    archive_path().write_bytes(b"")
    (option, *silent) = jvm_options()
    assert option == f"-XX:SharedArchiveFile={archive_path()}"
    assert all("=off" in word for word in silent)
    assert option in spark_conf(Settings(), [])["spark.driver.extraJavaOptions"].split()
