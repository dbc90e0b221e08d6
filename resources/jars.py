"""The jars: fetched by the paths of a lock, verified against its hashes, cached for the user, then only read.

`jars.toml` says what, `jars.lock` says exactly which files (`resources.jar_lock` writes it). After the first call
nothing here touches the network: a stamp remembers the size and modification time of the files that were compared.
A platform that has its jars imports nothing here but the standard library.

    python -m resources.jars         fetch and verify (what `make setup` does)
    python -m resources.jars s3      these, and those for a lakehouse in S3; `registry`: the embedded schema registry's
"""

from __future__ import annotations

import functools
import hashlib
import http.client
import json
import os
import shutil
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from platform_assets.errors import MissingDependencyError
from resources import file_lock

JarSet = Literal["spark", "s3", "broker", "registry"]
JAR_SETS: tuple[JarSet, ...] = get_args(JarSet)
JARS_LOCK = Path(__file__).with_name("jars.lock")

# A first download of some 60 MB over a slow line takes minutes; a second process waits for the first.
_FETCH_TIMEOUT_SECONDS = 900.0
# A repository that sends nothing for this long is not slow, it is gone.
_SILENCE_SECONDS = 30.0
# A repository refuses a client that opens many connections at once; half of the time of one is waiting for it.
_CONNECTIONS = 6
_ATTEMPTS = 3


@dataclass(frozen=True)
class LockedJar:
    """One line of jars.lock. `path` is the file's path in a Maven repository."""

    path: str
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.rpartition("/")[2]


def spark_jars(cache: Path | None = None) -> list[Path]:
    """The jars that go on `spark.jars`, sorted by name, present and verified.

    `cache` defaults to `default_cache()`. The first call fetches (network); later calls only look at file sizes.
    Raises `MissingDependencyError` when a jar cannot be had or is not the locked one.
    """
    return _jars("spark", cache or default_cache())


def s3_jars(cache: Path | None = None) -> list[Path]:
    """What Spark needs besides for a lakehouse in S3; fetched where the root is there. Otherwise as `spark_jars`."""
    return _jars("s3", cache or default_cache())


def broker_jars(cache: Path | None = None) -> list[Path]:
    """The embedded broker's class path; otherwise as `spark_jars`."""
    return _jars("broker", cache or default_cache())


def registry_archive(cache: Path | None = None) -> Path:
    """The embedded schema registry, one archive; fetched at its first start. Otherwise as `spark_jars`."""
    (archive,) = _jars("registry", cache or default_cache())
    return archive


def default_cache() -> Path:
    """`$HEADRACE_CACHE`, else `headrace` in the user's cache folder, with one folder per content of jars.lock.

    Not under `HEADRACE_HOME`: deleting the platform's data must not cost a download.
    """
    override = os.environ.get("HEADRACE_CACHE")
    user_cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    root = Path(override).expanduser().absolute() if override else user_cache / "headrace"
    digest = hashlib.sha256(JARS_LOCK.read_bytes()).hexdigest()[:12]
    return root / f"jars-{digest}"


def read_lock(path: Path | None = None) -> dict[JarSet, tuple[LockedJar, ...]]:
    """The locked jars of each set, sorted by name. Raises `MissingDependencyError` when the lock cannot be read."""
    path = path or JARS_LOCK
    locked: dict[str, list[LockedJar]] = {jar_set: [] for jar_set in JAR_SETS}
    try:
        for line in path.read_text().splitlines():
            if line and not line.startswith("#"):
                jar_set, place, size, digest = line.split()
                locked[jar_set].append(LockedJar(place, int(size), digest))
    except (OSError, ValueError, KeyError) as error:
        raise MissingDependencyError(f"{path} cannot be read ({error}). Restore it, or run `make lock-jars`.") from None
    return {jar_set: tuple(sorted(locked[jar_set], key=lambda jar: jar.name)) for jar_set in JAR_SETS}


def sha256(path: Path) -> str:
    """The file's hash in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _jars(jar_set: JarSet, cache: Path) -> list[Path]:
    locked = read_lock()[jar_set]
    folder = cache / jar_set
    paths = [folder / jar.name for jar in locked]
    if _is_verified(folder, locked):
        return paths
    with file_lock.exclusive(cache / ".resolving", timeout_seconds=_FETCH_TIMEOUT_SECONDS):
        if not _is_verified(folder, locked):
            _fill(folder, locked)
    return paths


def _fill(folder: Path, locked: tuple[LockedJar, ...]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        for _ in pool.map(functools.partial(_place, folder), locked):
            pass
    stamp = folder / f".stamp.{os.getpid()}"
    stamp.write_text(json.dumps(_fingerprint(folder, locked)))
    stamp.replace(folder / ".stamp")


def _place(folder: Path, jar: LockedJar) -> None:
    """Puts the locked file, and no other, into the folder: from the user's Maven repository or from the network."""
    if _matches(folder / jar.name, jar):
        return
    partial = folder / f".{jar.name}.{os.getpid()}"
    try:
        local = Path.home() / ".m2" / "repository" / jar.path
        if _matches(local, jar):
            shutil.copyfile(local, partial)
        else:
            _download(jar, partial)
        partial.replace(folder / jar.name)
    finally:
        partial.unlink(missing_ok=True)


def _download(jar: LockedJar, partial: Path) -> None:
    url = f"{_repository()}/{jar.path}"
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with urllib.request.urlopen(url, timeout=_SILENCE_SECONDS) as response, partial.open("wb") as file:
                shutil.copyfileobj(response, file)
            break
        except (OSError, ValueError, http.client.HTTPException) as error:
            missing = isinstance(error, urllib.error.HTTPError) and error.code in (401, 403, 404)
            if missing or isinstance(error, ValueError) or attempt == _ATTEMPTS:
                raise MissingDependencyError(
                    f"{jar.path} cannot be fetched ({error}). Check the network, or name a Maven repository that "
                    "this machine can reach, HEADRACE_MAVEN_REPOSITORY=https://..., and run `make setup` again."
                ) from error
            time.sleep(attempt)  # the repository said no for now: ask a little later
    if not _matches(partial, jar):
        raise MissingDependencyError(
            f"{jar.path} has another sha256 than jars.lock says: the repository serves another file than the locked "
            "one. Run `make setup` again; if it stays so, use another repository (HEADRACE_MAVEN_REPOSITORY)."
        )


def _repository() -> str:
    """`$HEADRACE_MAVEN_REPOSITORY`, else Maven Central, by the address that the resolver knows."""
    named = os.environ.get("HEADRACE_MAVEN_REPOSITORY")
    if named:
        return named.rstrip("/")
    from jgo.constants import MAVEN_CENTRAL_URL

    return str(MAVEN_CENTRAL_URL)


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
    return path.is_file() and path.stat().st_size == jar.size and sha256(path) == jar.sha256


def main() -> None:
    """Command line, see the module's docstring."""
    try:
        found = [spark_jars(), broker_jars(), *([s3_jars()] if "s3" in sys.argv[1:] else [])]
        found += [[registry_archive()]] if "registry" in sys.argv[1:] else []
    except (MissingDependencyError, TimeoutError) as error:
        sys.exit(str(error))
    for jars in found:
        print(f"{len(jars)} jars in {jars[0].parent}")


if __name__ == "__main__":
    main()
