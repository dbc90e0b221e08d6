"""Runs the steps of deploy/Dockerfile without a container engine: in a chroot of the same Debian, as root.

    python -m deploy.rehearse_image FOLDER        from the project's root; FOLDER is made, and needs 6 GB

Each FROM is a Debian that debootstrap makes, with Debian's Python 3.11 in the place of the image's. COPY takes what
.dockerignore leaves of the files that Git knows, so that a file that is not copied is missing here as it would be
there. At the end it starts, as the image's user, what the containers start, and Spark with the archive of its classes.
Settings for package indexes (pip's and apt's files, certificates, variables) are lent to the steps. Exit code 0: the
image would work.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[1]
_BASE = re.compile(r"python:3\.11\.\d+-slim-(\w+)")
_LENT_VARIABLES = re.compile(r"PIP_|SSL_CERT_|REQUESTS_CA_BUNDLE$|HEADRACE_MAVEN_REPOSITORY$|\w*_proxy$", re.IGNORECASE)
_LENT_FILES = ("/etc/pip.conf", "/etc/resolv.conf", "/etc/hosts", "/etc/apt/sources.list", "/etc/apt/sources.list.d",
               "/etc/apt/apt.conf.d", "/etc/ssl/certs", "/usr/local/share/ca-certificates")  # fmt: skip
_SPARK = """
from pathlib import Path
import tempfile
from resources.spark.class_archive import is_current
from resources.settings import Settings
from resources.spark.session import SparkResource
assert is_current(), "the archive of Spark's classes belongs to another Java, path or set of jars"
folder = tempfile.mkdtemp()
with SparkResource.from_settings(Settings(home=Path(folder), lakehouse=folder), "rehearsal").running() as spark:
    spark.range(10).write.format("delta").save(folder + "/t")
    assert spark.read.format("delta").load(folder + "/t").count() == 10
"""
_CHECKS: dict[str, tuple[list[str], dict[str, str]]] = {
    "the command starts": (["headrace", "--help"], {}),
    "the definitions load, with all groups": (
        ["python", "-c", "from platform_assets.definitions import defs; defs().get_repository_def()"],
        {"HEADRACE_GROUPS": "all"},
    ),
    "metrics over OTLP can be sent": (["python", "-c", "import opentelemetry.exporter.otlp.proto.http"], {}),
    "the scripts of the containers start": (["python", "/opt/headrace/code_server.py", "--help"], {}),
    "the migration imports": (["python", "-c", "import sys; sys.path.insert(0, '/opt/headrace'); import migrate"], {}),
    "jars of an object store are there": (
        ["python", "-c", "from resources.jars import broker_jars, s3_jars; broker_jars(); s3_jars()"],
        {"HEADRACE_MAVEN_REPOSITORY": "http://127.0.0.1:9"},
    ),
    # -Xshare:on ends a JVM that cannot map the archive; by default it would go on without it.
    "Spark writes and reads a table, with its classes from the archive": (
        ["python", "-c", _SPARK],
        {"JAVA_TOOL_OPTIONS": "-Xshare:on"},
    ),
}


@dataclass
class Stage:
    """One FROM: the folder that is its root, and what it has set so far."""

    root: Path
    environment: dict[str, str] = field(
        default_factory=lambda: {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"}
    )
    user: str = "root"
    workdir: str = "/"

    def run(self, command: list[str], extra: dict[str, str]) -> None:
        """Runs a command as the image's user, with its variables and in its folder; raises where it fails."""
        words = " ".join(shlex.quote(word) for word in command)
        inside = ["chroot", f"--userspec={self.user}", str(self.root), "/bin/sh", "-c", f"cd {self.workdir} && {words}"]
        subprocess.run(inside, check=True, env={**self.environment, **extra}, stdout=subprocess.DEVNULL)


def main() -> int:
    """Command line, see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder.absolute()
    folder.mkdir(parents=True)
    lent = {name: value for name, value in os.environ.items() if _LENT_VARIABLES.match(name)}
    with ExitStack() as mounts:
        stage = build(folder, lent, mounts)
        for what, (command, extra) in _CHECKS.items():
            with _timed(what):
                stage.run(command, extra)
    return 0


def build(folder: Path, lent: dict[str, str], mounts: ExitStack) -> Stage:
    """Does the Dockerfile's steps; returns the last stage. What it mounts is let go with `mounts`."""
    stages: dict[str, Stage] = {}
    stage = Stage(folder)
    for instruction, rest in read_steps((ROOT / "deploy" / "Dockerfile").read_text()):
        with _timed(f"{instruction} {rest}"):
            if instruction == "FROM":
                image, _, name = rest.partition(" AS ")
                stage = stages[name or "last"] = Stage(folder / f"stage-{len(stages)}")
                _bootstrap(stage.root, image, lent)
                _lend(stage.root, lent, mounts)
            elif instruction == "RUN":
                stage.run(["/bin/sh", "-c", rest], lent)
            elif instruction == "ENV":
                _set_variables(stage.environment, rest)
            elif instruction == "COPY":
                _copy(stage, rest, stages)
            elif instruction == "WORKDIR":
                stage.workdir = rest
                (stage.root / rest.strip("/")).mkdir(parents=True, exist_ok=True)
            elif instruction == "USER":
                stage.user = rest
            elif instruction != "VOLUME":
                sys.exit(f"deploy/Dockerfile: {instruction} is not known here: add it to deploy/rehearse_image.py.")
    return stage


def _set_variables(environment: dict[str, str], assignments: str) -> None:
    for assignment in shlex.split(assignments):
        key, _, value = assignment.partition("=")
        environment[key] = re.sub(r"\$(\w+)", lambda found: environment[found[1]], value)


def read_steps(text: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile, each with the rest of its line; comments left out."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    whole = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(step.partition(" ")[0], step.partition(" ")[2].strip()) for step in whole.splitlines()]


def list_context(patterns: list[str], files: list[str]) -> list[str]:
    """The files that .dockerignore leaves: of the patterns that fit a file or a folder above it, the last decides."""
    left = []
    for file in files:
        path, is_ignored = PurePosixPath(file), False
        names = [file, *(str(parent) for parent in path.parents if str(parent) != ".")]
        for pattern in patterns:
            plain = pattern.removeprefix("!").rstrip("/")
            if any(_fits(name, plain) for name in names):
                is_ignored = not pattern.startswith("!")
        if not is_ignored:
            left.append(file)
    return left


def _fits(name: str, pattern: str) -> bool:
    if pattern.startswith("**/"):
        return fnmatch.fnmatchcase(name.rpartition("/")[2], pattern[3:])
    return name.count("/") == pattern.count("/") and fnmatch.fnmatchcase(name, pattern)


def _copy(stage: Stage, rest: str, stages: dict[str, Stage]) -> None:
    *sources, target = rest.split()
    source_root, known = ROOT, None
    if sources[0].startswith("--from="):
        source_root = stages[sources.pop(0).removeprefix("--from=")].root
    else:
        listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
        ignore = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
        known = list_context(ignore, listed.splitlines())
    place = stage.root / str(PurePosixPath(stage.workdir) / target).lstrip("/")
    for source in sources:
        found = source_root / source.lstrip("/")
        if found.is_dir():
            names = known if known is not None else None
            chosen = [Path(name) for name in names if name.startswith(f"{source}/")] if names is not None else None
            if chosen is None:
                shutil.copytree(found, place, symlinks=True, dirs_exist_ok=True)
            for path in chosen or ():
                _place(ROOT / path, place / path.relative_to(source))
            if chosen is not None and not chosen:
                sys.exit(f"COPY {source}: .dockerignore leaves nothing of it.")
        elif known is not None and source not in known:
            sys.exit(f"COPY {source}: no such file, or .dockerignore leaves it out.")
        else:
            _place(found, place / found.name if target.endswith("/") or len(sources) > 1 else place)


def _place(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)


def _bootstrap(root: Path, image: str, lent: dict[str, str]) -> None:
    if (found := _BASE.fullmatch(image)) is None:
        sys.exit(f"FROM {image}: only python:3.11.N-slim-DEBIAN is known here.")
    first = root.parent / "stage-0"
    if root != first:  # the second FROM begins as the first one did
        subprocess.run(["cp", "-a", str(root.parent / "base"), str(root)], check=True)
        return
    base = root.parent / "base"
    include = "--include=python3,python3-venv,ca-certificates"
    command = ["debootstrap", "--variant=minbase", include, found[1], str(base)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, **lent})
    (base / "usr/local/bin/python").symlink_to("/usr/bin/python3.11")
    subprocess.run(["cp", "-a", str(base), str(root)], check=True)


def _lend(root: Path, lent: dict[str, str], mounts: ExitStack) -> None:
    named = [value for value in lent.values() if value.startswith("/") and Path(value).exists()]
    for place in (*_LENT_FILES, *named):
        if Path(place).exists():
            target = root / place.lstrip("/")
            if Path(place).is_dir():
                target.mkdir(parents=True, exist_ok=True)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.touch()
            _mount(mounts, ["--bind", place, str(target)], target)
    for name in ("proc", "dev"):
        target = root / name
        _mount(mounts, ["--rbind", f"/{name}", str(target)], target)


def _mount(mounts: ExitStack, words: list[str], target: Path) -> None:
    subprocess.run(["mount", *words], check=True)
    subprocess.run(["mount", "--make-rprivate", str(target)], check=True)
    mounts.callback(subprocess.run, ["umount", "--recursive", "--lazy", str(target)], check=True)


@contextmanager
def _timed(what: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    print(f"{time.monotonic() - started:5.0f} s  {what[:110]}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
