"""The archive for executors has what tasks import and nothing else, and is refused once it is of another state."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from platform_assets.errors import MissingDependencyError
from resources.spark import executor_archive
from resources.spark.executor_archive import build_archive, check_archive, describe, read_label

# Few and small: what holds for these holds for all.
PACKAGES = ("msgspec", "python-dateutil")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "archives" / "executors.tar.gz"
    assert build_archive(path, PACKAGES) == path.stat().st_size
    return path


def unpack(archive: Path, place: Path) -> Path:
    with tarfile.open(archive) as file:
        file.extractall(place, filter="data")
    return place


def test_its_code_and_packages_are_all_that_a_process_of_it_imports(archive: Path, tmp_path: Path) -> None:
    place = unpack(archive, tmp_path / "unpacked")
    program = "import dateutil, msgspec, platform_assets.object_store as o, resources, six, sys; print(o.__file__)"
    environment = {
        "PATH": os.environ["PATH"], "HEADRACE_EXECUTOR_PYTHON": sys.executable,
        "PYTHONPATH": "/spark/python/lib/pyspark.zip:/more",
    }  # fmt: skip
    command = [str(place / "python"), "-S", "-c", f"{program}; print(sys.path)"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    file, path = done.stdout.splitlines()
    assert Path(file) == place / "lib" / "platform_assets" / "object_store.py"
    assert str(place / "lib") in path and "/more" in path and "pyspark.zip" not in path


def test_schemas_are_compiled_from_it_without_what_is_left_out(tmp_path: Path) -> None:
    """The compiler for Protobuf comes in a package that requires much, of which the compiler itself imports nothing."""
    packages = ("googleapis-common-protos", "grpcio-tools", "jsonschema-rs", "msgspec", "numpy", "protobuf", "pyarrow")
    path = tmp_path / "executors.tar.gz"
    build_archive(path, packages)
    place = unpack(path, tmp_path / "unpacked")
    assert not [name for name in ("grpc", "setuptools", "pkg_resources") if (place / "lib" / name).exists()]
    program = """
from platform_assets.streaming.formats.json_schema import read_json_schema
from platform_assets.streaming.formats.protobuf_schema import read_protobuf
from platform_assets.streaming.formats.registered_schema import RegisteredSchema
text = 'syntax = "proto3"; import "google/type/date.proto"; message M { google.type.Date d = 1; }'
print(read_protobuf(RegisteredSchema(1, "protobuf", text)).read(b"\\0\\x0a\\x02\\x08\\x07"))
print(read_json_schema(RegisteredSchema(2, "json", '{"properties": {"a": {}}}')).shape.members[0].name)
"""
    command = [str(place / "python"), "-S", "-c", program]
    environment = {"PATH": os.environ["PATH"], "HEADRACE_EXECUTOR_PYTHON": sys.executable}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["{'d': {'year': 7, 'month': 0, 'day': 0}}", "a"], done.stderr


def test_an_interpreter_of_another_version_gets_sparks_own_path(archive: Path, tmp_path: Path) -> None:
    place = unpack(archive, tmp_path / "unpacked")
    (place / "python-version").write_text("2.7")
    environment = {"HEADRACE_EXECUTOR_PYTHON": sys.executable, "PYTHONPATH": "/spark/python/lib/pyspark.zip"}
    command = [str(place / "python"), "-S", "-c", "import sys; print(sys.path)"]
    done = subprocess.run(
        command, env={"PATH": os.environ["PATH"], **environment}, capture_output=True, text=True, check=True
    )
    assert "pyspark.zip" in done.stdout and str(place) not in done.stdout


def test_a_missing_interpreter_is_named(archive: Path, tmp_path: Path) -> None:
    place = unpack(archive, tmp_path / "unpacked")
    environment = {"PATH": os.environ["PATH"], "HEADRACE_EXECUTOR_PYTHON": "python2.0"}
    done = subprocess.run([str(place / "python")], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 127 and "there is no python2.0" in done.stderr


def test_it_leaves_out_what_no_task_needs(archive: Path) -> None:
    with tarfile.open(archive) as file:
        names = file.getnames()
    assert names[0] == "label.json"
    assert not [name for name in names if "/tests/" in name or name.startswith(("/", ".."))]
    assert not [name for name in names if name.startswith("lib/platform_assets") and name.endswith(".pyc")]


def test_what_tasks_import_is_there_without_sparks_jars() -> None:
    label = describe()
    assert {"confluent-kafka", "deltalake", "msgspec", "numpy", "py4j", "pyarrow", "pyspark"} <= label[
        "packages"
    ].keys()
    assert not {"dagster", "dagster-webserver", "mlflow-skinny", "scikit-learn"} & label["packages"].keys()
    names = {name for name, _ in executor_archive._find_package_files(["pyspark"])}
    assert "pyspark/worker.py" in names and "pyspark/errors/error-conditions.json" in names
    assert not [name for name in names if name.startswith(("pyspark/jars/", "pyspark/bin/", "../"))]


def test_an_archive_of_this_state_is_taken(archive: Path) -> None:
    check_archive(archive, PACKAGES)


def change_code(label: dict[str, object]) -> str:
    label["code"] = "0" * 16
    return "its code differs"


def change_python(label: dict[str, object]) -> str:
    label["python"] = "2.7"
    return "python 2.7, not 3"


def change_package(label: dict[str, object]) -> str:
    label["packages"] = {**describe(PACKAGES)["packages"], "msgspec": "0.0"}
    return "msgspec 0.0, not "


@pytest.mark.parametrize("change", [change_code, change_python, change_package])
def test_an_archive_of_another_state_is_refused_with_what_differs(
    change: Callable[[dict[str, object]], str], archive: Path
) -> None:
    label = read_label(archive)
    said = change(label)
    write_label(archive, json.dumps(label).encode())
    with pytest.raises(MissingDependencyError, match=rf"{said}.*Run `headrace pack`"):
        check_archive(archive, PACKAGES)


def write_label(path: Path, content: bytes, name: str = "label.json") -> None:
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))


def test_no_archive_and_another_file_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.tar.gz"
    write_label(other, b"{}", "something")
    text = tmp_path / "text"
    text.write_text("no archive")
    for path in (tmp_path / "none", other, text, tmp_path):
        with pytest.raises(MissingDependencyError, match="Run `headrace pack`"):
            check_archive(path)
