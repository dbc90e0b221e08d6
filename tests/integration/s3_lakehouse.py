"""A lakehouse in a real S3 for the tests that share Spark's session: for their time it knows where that S3 is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from platform_assets.object_store import hadoop_conf
from resources.settings import Settings, load_settings

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from pyspark.sql import SparkSession

_HADOOP = "spark.hadoop."


def build_settings(home: Path, root: str, options: dict[str, str]) -> Settings:
    """Settings of a lakehouse there."""
    return Settings(home=home, lakehouse=root, storage_options=options, kafka_bootstrap_servers="")


def set_environment(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    """The same settings in the environment, for what reads them there."""
    monkeypatch.setenv("HEADRACE_LAKEHOUSE", settings.lakehouse)
    monkeypatch.setenv("HEADRACE_STORAGE_OPTIONS", json.dumps(settings.storage_options))
    load_settings.cache_clear()


@contextmanager
def told(session: SparkSession, settings: Settings) -> Iterator[None]:
    """Gives a running session for the block what one gets at its start when its lakehouse is in S3."""
    conf = hadoop_conf(settings.lakehouse, settings.storage_options)
    hadoop = session.sparkContext._jsc.hadoopConfiguration()
    for key, value in conf.items():
        if key.startswith(_HADOOP):
            hadoop.set(key.removeprefix(_HADOOP), value)
        else:
            session.conf.set(key, value)
    try:
        yield
    finally:
        for key in conf:
            if key.startswith(_HADOOP):
                hadoop.unset(key.removeprefix(_HADOOP))
            else:
                session.conf.unset(key)
