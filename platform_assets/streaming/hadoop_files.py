"""Reads small files of checkpoints and Delta logs through Hadoop's file system, so that any root URI works."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def read_text(session: SparkSession, uri: str) -> str | None:
    """The file's text (UTF-8), or None when there is no such file. Other failures raise py4j's `Py4JJavaError`."""
    jvm = session._jvm
    assert jvm is not None
    path = jvm.org.apache.hadoop.fs.Path(uri)
    files = path.getFileSystem(session._jsparkSession.sessionState().newHadoopConf())
    if not files.exists(path):
        return None
    stream = files.open(path)
    try:
        return bytes(stream.readAllBytes()).decode()
    finally:
        stream.close()


def list_numbers(session: SparkSession, uri: str) -> list[int]:
    """The file names in a folder that are whole numbers, ascending: the batches of a checkpoint's log."""
    jvm = session._jvm
    assert jvm is not None
    path = jvm.org.apache.hadoop.fs.Path(uri)
    files = path.getFileSystem(session._jsparkSession.sessionState().newHadoopConf())
    if not files.exists(path):
        return []
    names = [status.getPath().getName() for status in files.listStatus(path)]
    return sorted(int(name) for name in names if name.isdigit())
