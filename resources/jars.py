"""The jars: resolved once from Maven coordinates, verified against a lock, cached for the user, then only read.

`jars.toml` says what, `jars.lock` says exactly which files. After the first call nothing here touches the network or
the resolver: a stamp remembers the size and modification time of the files whose sha256 was compared.

    python -m resources.jars         resolve and verify (what `make setup` does)
    python -m resources.jars lock    resolve again and rewrite jars.lock
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
import tomllib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from platform_assets.errors import MissingDependencyError
from resources import file_lock

JarSet = Literal["spark", "broker"]

_COORDINATES = Path(__file__).with_name("jars.toml")
_LOCK = Path(__file__).with_name("jars.lock")

# A first download of some 150 MB over a slow line takes minutes; a second process waits for the first.
_RESOLVE_TIMEOUT_SECONDS = 900.0


@dataclass(frozen=True)
class LockedJar:
    """One line of jars.lock."""

    name: str
    size: int
    sha256: str


def spark_jars(cache: Path | None = None) -> list[Path]:
    """The jars that go on `spark.jars`, sorted by name, present and verified.

    `cache` defaults to `default_cache()`. The first call resolves (network); later calls only look at file sizes.
    Raises `MissingDependencyError` when a jar cannot be had or is not the locked one.
    """
    return _jars("spark", cache or default_cache())


def broker_jars(cache: Path | None = None) -> list[Path]:
    """The embedded broker's class path; otherwise as `spark_jars`."""
    return _jars("broker", cache or default_cache())


def default_cache() -> Path:
    """`$HEADRACE_CACHE`, else `headrace` in the user's cache folder, with one folder per content of jars.lock.

    Not under `HEADRACE_HOME`: deleting the platform's data must not cost a download.
    """
    override = os.environ.get("HEADRACE_CACHE")
    user_cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    root = Path(override).expanduser().absolute() if override else user_cache / "headrace"
    digest = hashlib.sha256(_LOCK.read_bytes()).hexdigest()[:12]
    return root / f"jars-{digest}"


def read_lock(path: Path = _LOCK) -> dict[JarSet, tuple[LockedJar, ...]]:
    """The locked jars of both sets, sorted by name. Raises `MissingDependencyError` when the lock cannot be read."""
    locked: dict[JarSet, list[LockedJar]] = {"spark": [], "broker": []}
    try:
        for line in path.read_text().splitlines():
            if line and not line.startswith("#"):
                jar_set, name, size, sha256 = line.split()
                locked["spark" if jar_set == "spark" else "broker"].append(LockedJar(name, int(size), sha256))
    except (OSError, ValueError) as error:
        raise MissingDependencyError(f"{path} cannot be read ({error}). Restore it, or run `make lock-jars`.") from None
    return {jar_set: tuple(sorted(jars, key=lambda jar: jar.name)) for jar_set, jars in locked.items()}


def write_lock(path: Path = _LOCK) -> None:
    """Resolves both sets from the coordinates and rewrites the lock. Needs the network."""
    lines = ["# Written by `make lock-jars` from jars.toml: set, file, size, sha256."]
    for jar_set in ("spark", "broker"):
        for jar in _resolve(jar_set):
            lines.append(f"{jar_set} {jar.name} {jar.stat().st_size} {_sha256(jar)}")
    path.write_text("\n".join(lines) + "\n")


def artifact_id(file_name: str) -> str:
    """The file name without version and ending: `kafka-clients-3.9.2.jar` is `kafka-clients`."""
    # The last part that looks like a version: artifact names hold numbers too (`spark-sql-kafka-0-10_2.13-4.2.0.jar`).
    match = re.fullmatch(r"(.+)-\d+\.\d[^-]*(?:-\w+)*\.jar", file_name)
    return match[1] if match else file_name.removesuffix(".jar")


def select_missing(candidates: list[Path], shipped: frozenset[str]) -> list[Path]:
    """The candidates whose artifact is not in `shipped` in any version, sorted by name.

    Two versions of one class on the class path (log4j, parquet, hadoop, jackson) fail at run time and far away from
    the cause; Spark's own version always wins.
    """
    return sorted((jar for jar in candidates if artifact_id(jar.name) not in shipped), key=lambda jar: jar.name)


def _jars(jar_set: JarSet, cache: Path) -> list[Path]:
    locked = read_lock()[jar_set]
    folder = cache / jar_set
    paths = [folder / jar.name for jar in locked]
    if _is_verified(folder, locked):
        return paths
    with file_lock.exclusive(cache / ".resolving", timeout_seconds=_RESOLVE_TIMEOUT_SECONDS):
        if not _is_verified(folder, locked):
            _fill(jar_set, folder, locked)
    return paths


def _fill(jar_set: JarSet, folder: Path, locked: tuple[LockedJar, ...]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if not all(_matches(folder / jar.name, jar) for jar in locked):
        resolved = {jar.name: jar for jar in _resolve(jar_set)}
        for jar in locked:
            source = resolved.get(jar.name)
            if source is None:
                raise MissingDependencyError(
                    f"{jar.name} is locked in jars.lock but jars.toml no longer resolves to it. Run `make lock-jars`."
                )
            if not _matches(source, jar):
                raise MissingDependencyError(
                    f"{source} has another sha256 than jars.lock says. Delete that file and try again; if it stays "
                    "different, the repository serves another file than the locked one."
                )
            partial = folder / f".{jar.name}.{os.getpid()}"
            shutil.copyfile(source, partial)
            partial.replace(folder / jar.name)
    stamp = folder / f".stamp.{os.getpid()}"
    stamp.write_text(json.dumps(_fingerprint(folder, locked)))
    stamp.replace(folder / ".stamp")


def _is_verified(folder: Path, locked: tuple[LockedJar, ...]) -> bool:
    try:
        remembered = json.loads((folder / ".stamp").read_text())
        return bool(remembered == _fingerprint(folder, locked))
    except (OSError, ValueError):
        return False


def _fingerprint(folder: Path, locked: tuple[LockedJar, ...]) -> dict[str, list[int | str]]:
    found = {jar.name: (folder / jar.name).stat() for jar in locked}
    return {jar.name: [jar.sha256, found[jar.name].st_size, found[jar.name].st_mtime_ns] for jar in locked}


def _matches(path: Path, jar: LockedJar) -> bool:
    return path.is_file() and path.stat().st_size == jar.size and _sha256(path) == jar.sha256


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _resolve(jar_set: JarSet) -> list[Path]:
    import jgo

    by_artifact: dict[str, Path] = {}
    for coordinates in tomllib.loads(_COORDINATES.read_text())[jar_set]["resolutions"]:
        try:
            jars = [Path(jar) for jar in jgo.build("+".join(coordinates)).all_jars]
        except Exception as error:  # the resolver raises whatever its HTTP and XML layers raise
            raise MissingDependencyError(
                f"The jars of {', '.join(coordinates)} cannot be resolved ({type(error).__name__}: {error}). "
                "Check the network or the Maven settings of this machine, then run `make setup` again."
            ) from error
        by_artifact = {artifact_id(jar.name): jar for jar in jars} | by_artifact
    shipped = _shipped_by_pyspark() if jar_set == "spark" else frozenset()
    return select_missing(list(by_artifact.values()), shipped)


def _shipped_by_pyspark() -> frozenset[str]:
    spec = find_spec("pyspark")  # found, not imported: importing pyspark costs a second
    if spec is None or spec.origin is None:
        raise MissingDependencyError("pyspark is not installed. Run `make setup`.")
    return frozenset(artifact_id(jar.name) for jar in (Path(spec.origin).parent / "jars").glob("*.jar"))


def main(arguments: list[str]) -> None:
    """Command line, see the module's docstring."""
    if arguments == ["lock"]:
        write_lock()
    for jars in (spark_jars(), broker_jars()):
        print(f"{len(jars)} jars in {jars[0].parent}")


if __name__ == "__main__":
    main(sys.argv[1:])
