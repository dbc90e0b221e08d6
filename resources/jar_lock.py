"""Resolves the Maven coordinates of `jars.toml` and writes down the files that they mean, in `jars.lock`.

    python -m resources.jar_lock         what `make lock-jars` does; needs the network and the installed packages

Only this needs a resolver. Everybody else fetches the locked files by their paths (`resources.jars`).
"""

from __future__ import annotations

import re
import tomllib
from importlib.util import find_spec
from pathlib import Path

from platform_assets.errors import MissingDependencyError
from resources.jars import JAR_SETS, JARS_LOCK, JarSet, sha256

_COORDINATES = Path(__file__).with_name("jars.toml")


def write_lock(lock: Path = JARS_LOCK) -> None:
    """Resolves all sets from the coordinates and rewrites the lock. Needs the network."""
    lines = ["# Written by `make lock-jars` from jars.toml: set, path in a Maven repository, size, sha256."]
    for jar_set in JAR_SETS:
        for path, jar in sorted(_resolve(jar_set).items(), key=lambda found: found[1].name):
            lines.append(f"{jar_set} {path} {jar.stat().st_size} {sha256(jar)}")
    lock.write_text("\n".join(lines) + "\n")


def artifact_id(file_name: str) -> str:
    """The file name without version and ending: `kafka-clients-3.9.2.jar` is `kafka-clients`."""
    # The last part that looks like a version: artifact names hold numbers too (`spark-sql-kafka-0-10_2.13-4.2.0.jar`).
    match = re.fullmatch(r"(.+)-\d+\.\d[^-]*(?:-\w+)*\.jar", file_name)
    return match[1] if match else file_name.removesuffix(".jar")


def select_missing(candidates: dict[str, Path], shipped: frozenset[str]) -> dict[str, Path]:
    """The candidates, files by their repository paths, whose artifact is not in `shipped` in any version.

    Two versions of one class on the class path (log4j, parquet, hadoop, jackson) fail at run time and far away from
    the cause; Spark's own version always wins.
    """
    return {path: jar for path, jar in candidates.items() if artifact_id(jar.name) not in shipped}


def _resolve(jar_set: JarSet) -> dict[str, Path]:
    import jgo

    wanted = tomllib.loads(_COORDINATES.read_text())[jar_set]
    by_artifact = _fetch_alone(wanted.get("without_dependencies", []))
    for coordinates in wanted.get("resolutions", []):
        try:
            environment = jgo.build("+".join(coordinates))
        except Exception as error:  # the resolver raises whatever its HTTP and XML layers raise
            raise MissingDependencyError(
                f"The jars of {', '.join(coordinates)} cannot be resolved ({type(error).__name__}: {error}). "
                "Check the network, then run `make lock-jars` again."
            ) from error
        files = {jar.name: jar for jar in map(Path, environment.all_jars)}
        for found in environment.lockfile.dependencies if environment.lockfile else ():
            name = f"{found.artifactId}-{found.version}.jar"
            if name in files:
                path = f"{found.groupId.replace('.', '/')}/{found.artifactId}/{found.version}/{name}"
                by_artifact.setdefault(artifact_id(name), (path, files[name]))
    unwanted = frozenset(wanted.get("left_out", [])) | (
        _shipped_by_pyspark() if jar_set in ("spark", "s3") else frozenset()
    )
    return select_missing(dict(by_artifact.values()), unwanted)


def _fetch_alone(coordinates: list[str]) -> dict[str, tuple[str, Path]]:
    """The artifacts themselves, by their names, with their repository paths."""
    from jgo.maven import MavenContext

    context, found = MavenContext(), {}
    for group, artifact, version, *kind in (one.split(":") for one in coordinates):
        try:
            jar = Path(context.project(group, artifact).at_version(version).artifact(*kind).resolve())
        except Exception as error:  # as above
            raise MissingDependencyError(
                f"The jar {group}:{artifact}:{version} cannot be fetched ({type(error).__name__}: {error}). Check the "
                "network, then run `make lock-jars` again."
            ) from error
        found[artifact] = f"{group.replace('.', '/')}/{artifact}/{version}/{jar.name}", jar
    return found


def _shipped_by_pyspark() -> frozenset[str]:
    spec = find_spec("pyspark")  # found, not imported: importing pyspark costs a second
    if spec is None or spec.origin is None:
        raise MissingDependencyError("pyspark is not installed. Run `make setup`.")
    return frozenset(artifact_id(jar.name) for jar in (Path(spec.origin).parent / "jars").glob("*.jar"))


if __name__ == "__main__":
    write_lock()
