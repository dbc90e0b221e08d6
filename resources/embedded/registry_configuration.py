"""What the embedded schema registry's JVM is started with: its files, its command line."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
import zlib
from pathlib import Path

from platform_assets.errors import MissingDependencyError
from resources import file_lock
from resources.jars import registry_archive
from resources.java import registry_java_home
from resources.ports import HOST

DATA_FILE = "data/registry.mv.db"
"""H2's only file, below the registry's folder."""

API_PATH = "/apis/ccompat/v7"
"""Confluent's API, below the registry's address."""

# A thousand schemas take 100 MB of it; by default the heap would be a quarter of the machine.
_HEAP = ("-Xms32m", "-Xmx256m")
# Unpacking takes two seconds; a second process waits for the first.
_UNPACKING_SECONDS = 120.0


def write_launch_file(folder: Path, port: int) -> Path:
    """Writes the guard's launch file into `folder` and returns its path.

    Unpacks the registry at its first use. Raises `MissingDependencyError` when Java or the archive cannot be had.
    """
    (folder / "temporary").mkdir(exist_ok=True)
    java = [str(registry_java_home() / "bin" / "java"), *_HEAP, "-XX:+UseSerialGC"]
    # The second compiler would be at work for longer than most of these registries live.
    java += ["-XX:TieredStopAtLevel=1", "-XX:+ExitOnOutOfMemoryError", "-Djava.awt.headless=true"]
    java += [f"-D{name}={value}" for name, value in registry_properties(folder, port).items()]
    launch = {
        "folder": str(folder),
        "name": "registry",
        "port": port,
        "command": [*java, "-jar", str(_unpack(registry_archive()) / "quarkus-run.jar")],
    }
    launch_file = folder / "launch.json"
    launch_file.write_text(json.dumps(launch))
    return launch_file


def registry_properties(folder: Path, port: int) -> dict[str, str]:
    """The registry's configuration: bound to the loopback interface only, schemas in a file of H2."""
    return {
        "user.timezone": "UTC",
        "java.io.tmpdir": str(folder / "temporary"),
        "quarkus.http.host": HOST,
        "quarkus.http.port": str(port),
        # A second port, for metrics, that would be on all addresses.
        "quarkus.management.host": HOST,
        "quarkus.management.port": "0",
        # Each change is on the disk before it is acknowledged: records carry ids that must not be given out twice.
        "apicurio.datasource.url": f"jdbc:h2:file:{folder / DATA_FILE.removesuffix('.mv.db')};WRITE_DELAY=0",
        # By default twenty connections are made at the start.
        "apicurio.datasource.jdbc.initial-size": "1",
        "apicurio.datasource.jdbc.min-size": "1",
        "apicurio.datasource.jdbc.max-size": "8",
        # Confluent's default; Apicurio's is to accept every version.
        "apicurio.rules.global.compatibility": "BACKWARD",
        "quarkus.banner.enabled": "false",
        "quarkus.http.access-log.enabled": "false",
        "quarkus.log.console.enabled": "false",
        "quarkus.log.file.enabled": "true",
        "quarkus.log.file.json.enabled": "false",
        "quarkus.log.file.path": str(folder / "registry.log"),
        "quarkus.log.file.format": "%d{yyyy-MM-dd'T'HH:mm:ss.SSS}Z %p %c{1}: %m%e%n",
        "quarkus.log.file.rotation.max-file-size": "10M",
        "quarkus.log.file.rotation.max-backup-index": "3",
    }


def _unpack(archive: Path) -> Path:
    """The archive's content in a folder next to it, there as a whole or not at all."""
    place = archive.with_name("application")
    with file_lock.exclusive(archive.with_name(".unpacking"), timeout_seconds=_UNPACKING_SECONDS):
        if not place.is_dir():
            draft = archive.with_name(f".application.{os.getpid()}")
            try:
                with tarfile.open(archive) as file:
                    file.extractall(draft, filter="data")
                draft.replace(place)
            except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
                raise MissingDependencyError(
                    f"The schema registry cannot be unpacked in {archive.parent} ({error}). Free space there, or name "
                    "another folder by HEADRACE_CACHE."
                ) from None
            finally:
                shutil.rmtree(draft, ignore_errors=True)
    return place
