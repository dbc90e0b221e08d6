"""The jar cache: what is selected, what is refused, and that the resolver is left alone afterwards."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from platform_assets.errors import MissingDependencyError
from resources import jars

_NEEDED_BY_SPARK = {
    "commons-pool2", "delta-kernel-api", "delta-kernel-defaults", "delta-kernel-unitycatalog", "delta-spark_4.2_2.13",
    "delta-storage", "jackson-datatype-jdk8", "kafka-clients", "spark-sql-kafka-0-10_2.13",
    "spark-token-provider-kafka-0-10_2.13", "unitycatalog-client", "unitycatalog-hadoop",
}  # fmt: skip


@pytest.mark.parametrize(
    ("file_name", "artifact"),
    [
        ("kafka-clients-3.9.2.jar", "kafka-clients"),
        ("spark-sql-kafka-0-10_2.13-4.2.0.jar", "spark-sql-kafka-0-10_2.13"),
        ("delta-spark_4.2_2.13-4.4.0.jar", "delta-spark_4.2_2.13"),
        ("guava-33.6.0-jre.jar", "guava"),
        ("netty-all-4.2.13.Final.jar", "netty-all"),
        ("zstd-jni-1.5.7-7.jar", "zstd-jni"),
        ("commons-pool2-2.13.1.jar", "commons-pool2"),
        ("hive-shims-0.23-2.3.10.jar", "hive-shims-0.23"),
        ("netty-transport-native-epoll-4.2.13.Final-linux-x86_64.jar", "netty-transport-native-epoll"),
        ("jackson-annotations-2.21.jar", "jackson-annotations"),
    ],
)
def test_artifact_id_is_the_file_name_without_its_version(file_name: str, artifact: str) -> None:
    assert jars.artifact_id(file_name) == artifact


def test_lock_holds_exactly_what_spark_lacks() -> None:
    locked = jars.read_lock()
    assert {jars.artifact_id(jar.name) for jar in locked["spark"]} == _NEEDED_BY_SPARK
    assert any(jar.name.startswith("kafka_2.13-") for jar in locked["broker"])
    assert all(len(jar.sha256) == 64 and jar.size > 0 for jar in (*locked["spark"], *locked["broker"]))


def test_artifact_that_spark_ships_in_another_version_is_left_out() -> None:
    candidates = [Path("b/log4j-core-2.25.4.jar"), Path("a/zeta-1.0.jar"), Path("z/alpha-1.0.jar")]
    kept = jars.select_missing(candidates, frozenset({"log4j-core"}))
    assert [jar.name for jar in kept] == ["alpha-1.0.jar", "zeta-1.0.jar"]


class _Repository:
    """Stands for the resolver: one jar, counted calls, and content that a test may change."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = 0
        self.jar = folder / "repository" / "thing-1.0.jar"
        self.jar.parent.mkdir()
        self.jar.write_bytes(b"content")
        lock = folder / "jars.lock"
        digest = hashlib.sha256(b"content").hexdigest()
        lock.write_text(f"# a comment\nspark thing-1.0.jar 7 {digest}\n")
        monkeypatch.setattr(jars, "_LOCK", lock)
        monkeypatch.setattr(jars, "read_lock", lambda: _READ_LOCK(lock))
        monkeypatch.setattr(jars, "_resolve", self.resolve)

    def resolve(self, jar_set: str) -> list[Path]:
        self.calls += 1
        return [self.jar]


_READ_LOCK = jars.read_lock


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _Repository:
    return _Repository(tmp_path, monkeypatch)


def test_second_call_neither_resolves_nor_hashes(
    repository: _Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first,) = jars.spark_jars(tmp_path / "cache")
    assert first.read_bytes() == b"content"

    def no_hash(path: Path) -> str:
        raise AssertionError(f"hashed {path}")

    monkeypatch.setattr(jars, "_sha256", no_hash)
    assert jars.spark_jars(tmp_path / "cache") == [first]
    assert repository.calls == 1


def test_jar_with_another_content_is_refused_by_name(repository: _Repository, tmp_path: Path) -> None:
    repository.jar.write_bytes(b"another")  # of the same length
    with pytest.raises(MissingDependencyError, match=r"thing-1\.0\.jar has another sha256"):
        jars.spark_jars(tmp_path / "cache")
    assert list((tmp_path / "cache" / "spark").glob("*.jar")) == []


def test_damaged_cache_is_filled_again(repository: _Repository, tmp_path: Path) -> None:
    (jar,) = jars.spark_jars(tmp_path / "cache")
    jar.write_bytes(b"damaged!")
    jars.spark_jars(tmp_path / "cache")
    assert jar.read_bytes() == b"content"


def test_lock_that_no_longer_matches_the_coordinates_says_so(repository: _Repository, tmp_path: Path) -> None:
    repository.jar = repository.jar.rename(repository.jar.with_name("thing-2.0.jar"))
    with pytest.raises(MissingDependencyError, match="make lock-jars"):
        jars.spark_jars(tmp_path / "cache")


def test_cache_folder_is_the_users_and_changes_with_the_lock(
    repository: _Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HEADRACE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    before = jars.default_cache()
    assert before.parent == tmp_path / "xdg" / "headrace"
    with jars._LOCK.open("a") as lock:
        lock.write("broker other-1.0.jar 1 " + "0" * 64)
    assert jars.default_cache() != before
    monkeypatch.setenv("HEADRACE_CACHE", str(tmp_path / "own"))
    assert jars.default_cache().parent == tmp_path / "own"


def test_unreadable_lock_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "jars.lock").write_text("spark thing-1.0.jar\n")
    with pytest.raises(MissingDependencyError, match=r"jars\.lock cannot be read"):
        _READ_LOCK(tmp_path / "jars.lock")
