"""The archive that executors on other machines work from: this project's code, and the packages that its tasks import.

Spark sends it from the driver to each executor, which unpacks it in its own working directory and starts its Python
processes by the script in it (`executor_python.sh`). The interpreter is the worker machine's own: a virtual environment
holds links to one, and would not work there. The archive begins with a label that says what it was made of.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import json
import os
import platform
import re
import sys
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from platform_assets.errors import MissingDependencyError
from resources.settings import Settings

# What tasks import, directly or through pyspark; their own requirements follow. The rest of the environment stays at
# home: the web UI, the model's training, and pyspark's jars, which are most of a gigabyte.
_PACKAGES = (
    "confluent-kafka", "deltalake", "duckdb", "fastavro", "googleapis-common-protos", "grpcio-tools", "jsonschema-rs",
    "msgspec", "numpy", "pandas", "protobuf", "pyarrow", "pydantic-settings", "pyspark", "tzdata", "urllib3",
)  # fmt: skip
_CODE = ("jobs", "platform_assets", "resources")
_LEFT_OUT = re.compile(
    r"pyspark/(jars|bin|sbin|examples|licenses|data|python|R)/"  # Spark itself is on each worker machine
    r"|(grpc|setuptools|pkg_resources|_distutils_hack)/"  # grpcio-tools names them; its compiler does not import them
    r"|(pyarrow|numpy|pandas|pyspark)/(.*/)?tests?/|(pyarrow|numpy/_core)/include/"
    r"|.*\.(pyi|pxd|pyx|h|hpp|a)$|(.*/)?__pycache__/|.*\.dist-info/(RECORD|direct_url\.json)$|\.\./"
)
_LABEL = "label.json"
_PYTHON = Path(__file__).with_name("executor_python.sh")
# Packages are half machine code: a higher level takes three times as long, for a tenth less.
_GZIP_LEVEL = 1


def archive_path(settings: Settings) -> Path:
    """The archive's path, whether or not it exists."""
    return Path(settings.executor_archive or settings.home / "executors.tar.gz").expanduser().absolute()


def build_archive(path: Path, packages: Iterable[str] = _PACKAGES) -> int:
    """Writes the archive and returns its size in bytes. An older one is replaced as a whole, at the end.

    Raises `MissingDependencyError` where a package is not installed, `OSError` where the path cannot be written.
    """
    label = describe(packages)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with tarfile.open(draft, "w:gz", compresslevel=_GZIP_LEVEL) as archive:
            _add_text(archive, _LABEL, json.dumps(label, indent=1, sort_keys=True).encode(), 0o644)
            _add_text(archive, "python", _PYTHON.read_bytes(), 0o755)
            _add_text(archive, "python-version", python_version().encode(), 0o644)
            for name, source in (*_find_code(), *_find_package_files(label["packages"])):
                archive.add(source, f"lib/{name}", recursive=False, filter=_readable_by_all)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path.stat().st_size


def check_archive(path: Path, packages: Iterable[str] = _PACKAGES) -> None:
    """Raises `MissingDependencyError` where the archive is missing, or was made of other code or packages."""
    try:
        found = read_label(path)
    except (OSError, ValueError, KeyError, tarfile.TarError):
        raise MissingDependencyError(
            f"Executors on other machines need an archive of this project, and {path} is none. Run `headrace pack`."
        ) from None
    if differences := list(_compare(found, describe(packages))):
        raise MissingDependencyError(
            f"The archive for executors, {path}, is of another state of this project ({', '.join(differences[:3])}). "
            "Run `headrace pack`."
        )


def read_label(path: Path) -> dict[str, Any]:
    """What the archive was made of. Raises `OSError`, `ValueError`, `KeyError` or `tarfile.TarError` for no archive."""
    with tarfile.open(path, "r|gz") as archive:
        first = archive.next()
        file = archive.extractfile(first) if first is not None and first.name == _LABEL else None
        if file is None:
            raise ValueError(f"{path} does not begin with a label")
        label: dict[str, Any] = json.loads(file.read())
        return label


def describe(packages: Iterable[str] = _PACKAGES) -> dict[str, Any]:
    """What an archive would be made of: the interpreter, the machine's kind, the packages' versions and the code."""
    digest = hashlib.sha256(_PYTHON.read_bytes())
    for name, source in _find_code():
        digest.update(f"{name}\0".encode())
        digest.update(source.read_bytes())
    return {
        "python": python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "packages": dict(sorted(_find_versions(packages).items())),
        "code": digest.hexdigest()[:16],
    }


def python_version() -> str:
    """The interpreter's version, as far as compiled packages depend on it: `3.11`."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _compare(found: dict[str, Any], wanted: dict[str, Any]) -> Iterator[str]:
    if found["code"] != wanted["code"]:
        yield "its code differs"
    for what in ("python", "machine"):
        if found[what] != wanted[what]:
            yield f"{what} {found[what]}, not {wanted[what]}"
    for name in sorted(found["packages"].keys() | wanted["packages"].keys()):
        old, new = found["packages"].get(name, "none"), wanted["packages"].get(name, "none")
        if old != new:
            yield f"{name} {old}, not {new}"


def _find_versions(packages: Iterable[str]) -> dict[str, str]:
    """The versions of these packages and of all that they require here."""
    from packaging.requirements import Requirement

    versions: dict[str, str] = {}
    left = list(packages)
    while left:
        name = re.sub(r"[-_.]+", "-", left.pop()).lower()
        if name in versions:
            continue
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            raise MissingDependencyError(f"The package {name} is not installed. Run `make setup`.") from None
        versions[name] = found.version
        required = [Requirement(text) for text in found.requires or []]
        left += [each.name for each in required if each.marker is None or each.marker.evaluate({"extra": ""})]
    return versions


def _find_code() -> Iterator[tuple[str, Path]]:
    root = Path(__file__).parents[2]
    for package in _CODE:
        for path in sorted((root / package).rglob("*")):
            name = path.relative_to(root)
            # An editor's open file would be other code at each look; a file of secrets is nobody's to send.
            if path.is_file() and path.suffix != ".pyc" and not any(part.startswith(".") for part in name.parts):
                yield name.as_posix(), path


def _find_package_files(packages: Iterable[str]) -> Iterator[tuple[str, Path]]:
    """The packages' files, and what Python has compiled of them: an executor's first task need not compile them."""
    for package in packages:
        for file in importlib.metadata.distribution(package).files or []:
            source = Path(str(file.locate()))
            if _LEFT_OUT.match(file.as_posix()) or not source.is_file():
                continue
            yield file.as_posix(), source
            compiled = source.parent / "__pycache__" / f"{source.stem}.{sys.implementation.cache_tag}.pyc"
            if source.suffix == ".py" and compiled.is_file():
                yield (PurePosixPath(file.as_posix()).parent / "__pycache__" / compiled.name).as_posix(), compiled


def _readable_by_all(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """The executor's user is another one; that the driver's user has kept a file to itself is of no use to it."""
    member.mode |= 0o444
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def _add_text(archive: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), mode
    archive.addfile(member, io.BytesIO(content))
