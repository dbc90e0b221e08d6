"""Small files of checkpoints, and folders, through Hadoop's file system, so that any root URI works."""

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


def write_text(session: SparkSession, uri: str, text: str) -> None:
    """Writes the file (UTF-8) over what is there, as a whole: a reader finds the old text or the new one."""
    jvm = session._jvm
    assert jvm is not None
    path = jvm.org.apache.hadoop.fs.Path(uri)
    # As Spark writes its checkpoints: to another name first, then renamed; object stores write whole files anyway.
    conf = session._jsparkSession.sessionState().newHadoopConf()
    manager = jvm.org.apache.spark.sql.execution.streaming.checkpointing.CheckpointFileManager.create(
        path.getParent(), conf
    )
    manager.mkdirs(path.getParent())
    stream = manager.createAtomic(path, True)
    try:
        stream.write(text.encode())
    except BaseException:
        stream.cancel()
        raise
    stream.close()


def remove(session: SparkSession, uri: str) -> None:
    """Removes the file; nothing happens where there is none."""
    jvm = session._jvm
    assert jvm is not None
    path = jvm.org.apache.hadoop.fs.Path(uri)
    path.getFileSystem(session._jsparkSession.sessionState().newHadoopConf()).delete(path, False)


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


def remove_folder(session: SparkSession, uri: str) -> None:
    """Removes the folder with all that lies in it; nothing where there is none."""
    jvm = session._jvm
    assert jvm is not None
    path = jvm.org.apache.hadoop.fs.Path(uri)
    path.getFileSystem(session._jsparkSession.sessionState().newHadoopConf()).delete(path, True)
