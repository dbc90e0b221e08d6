"""Small files of checkpoints, and folders, through Hadoop's file system, so that any root URI works."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_FILE_MANAGER = "org.apache.spark.sql.execution.streaming.checkpointing.CheckpointFileManager"


def read_text(session: SparkSession, uri: str) -> str | None:
    """The file's text (UTF-8), or None when there is no such file. Other failures raise py4j's `Py4JJavaError`."""
    path = _path(session, uri)
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
    path = _path(session, uri)
    # As Spark writes its checkpoints: to another name first, then renamed; object stores write whole files anyway.
    conf = session._jsparkSession.sessionState().newHadoopConf()
    manager = _find_class(session, _FILE_MANAGER).create(path.getParent(), conf)
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
    path = _path(session, uri)
    path.getFileSystem(session._jsparkSession.sessionState().newHadoopConf()).delete(path, False)


def list_numbers(session: SparkSession, uri: str) -> list[int]:
    """The file names in a folder that are whole numbers, ascending: the batches of a checkpoint's log."""
    path = _path(session, uri)
    files = path.getFileSystem(session._jsparkSession.sessionState().newHadoopConf())
    if not files.exists(path):
        return []
    names = [status.getPath().getName() for status in files.listStatus(path)]
    return sorted(int(name) for name in names if name.isdigit())


def remove_folder(session: SparkSession, uri: str) -> None:
    """Removes the folder with all that lies in it; nothing where there is none."""
    path = _path(session, uri)
    path.getFileSystem(session._jsparkSession.sessionState().newHadoopConf()).delete(path, True)


def _path(session: SparkSession, uri: str) -> Any:
    return _find_class(session, "org.apache.hadoop.fs.Path")(uri)


def _find_class(session: SparkSession, name: str) -> Any:
    """By its whole name. Of `jvm.org.apache` py4j asks at each dot whether that is a class, in each of 300 jars."""
    return getattr(session._jvm, name)
