"""What the embedded schema registry is started with, and how it is unpacked."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from platform_assets.errors import MissingDependencyError
from resources.embedded import registry_configuration
from resources.embedded.registry_configuration import registry_properties, write_launch_file


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small archive in the place of the real one."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "quarkus-run.jar").write_bytes(b"jar")
    (tmp_path / "cache").mkdir()
    path = tmp_path / "cache" / "registry.tar.gz"
    with tarfile.open(path, "w:gz") as file:
        file.add(tmp_path / "source", ".")
    monkeypatch.setattr(registry_configuration, "registry_archive", lambda: path)
    monkeypatch.setattr(registry_configuration, "registry_java_home", lambda: Path("/java"))
    return path


def test_every_port_is_on_the_loopback_interface() -> None:
    properties = registry_properties(Path("/home/registry"), 8081)
    assert {value for name, value in properties.items() if name.endswith(".host")} == {"127.0.0.1"}
    assert properties["quarkus.http.port"] == "8081"
    assert properties["apicurio.datasource.url"] == "jdbc:h2:file:/home/registry/data/registry;WRITE_DELAY=0"


def test_the_archive_is_unpacked_once(archive: Path, tmp_path: Path) -> None:
    command = json.loads(write_launch_file(tmp_path, 8081).read_text())["command"]
    jar = Path(command[-1])
    assert command[0] == "/java/bin/java" and jar.read_bytes() == b"jar" and jar.is_relative_to(archive.parent)
    archive.unlink()
    assert json.loads(write_launch_file(tmp_path, 8082).read_text())["command"][-1] == str(jar)


def test_a_broken_archive_leaves_nothing_and_is_named(archive: Path, tmp_path: Path) -> None:
    archive.write_bytes(archive.read_bytes()[:50])
    for _ in range(2):
        with pytest.raises(MissingDependencyError, match=f"cannot be unpacked in {archive.parent}"):
            write_launch_file(tmp_path, 8081)
    assert {path.name for path in archive.parent.iterdir()} == {archive.name, ".unpacking"}
