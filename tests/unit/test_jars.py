"""The jar cache: what is selected, fetched and refused, and that the network is left alone afterwards."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from platform_assets.errors import MissingDependencyError
from resources import jar_lock, jars

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
    assert jar_lock.artifact_id(file_name) == artifact


def test_lock_holds_exactly_what_spark_lacks() -> None:
    locked = jars.read_lock()
    assert {jar_lock.artifact_id(jar.name) for jar in locked["spark"]} == _NEEDED_BY_SPARK
    assert any(jar.name.startswith("kafka_2.13-") for jar in locked["broker"])
    assert all(len(jar.sha256) == 64 and jar.size > 0 for jar in (*locked["spark"], *locked["broker"]))


def test_artifact_that_spark_ships_in_another_version_is_left_out() -> None:
    candidates = {"b/log4j-core-2.25.4.jar": Path("log4j-core-2.25.4.jar"), "z/alpha-1.0.jar": Path("alpha-1.0.jar")}
    assert list(jar_lock.select_missing(candidates, frozenset({"log4j-core"}))) == ["z/alpha-1.0.jar"]


class _Repository:
    """A Maven repository on this machine: one jar, counted requests, and content that a test may change."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.requests: list[str] = []
        self.content = b"content"
        self.refusals: list[int] = []
        lock = folder / "jars.lock"
        digest = hashlib.sha256(b"content").hexdigest()
        lock.write_text(f"# a comment\nspark org/one/thing/1.0/thing-1.0.jar 7 {digest}\n")
        monkeypatch.setattr(jars, "JARS_LOCK", lock)
        monkeypatch.setenv("HOME", str(folder / "home"))
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        monkeypatch.setenv("HEADRACE_MAVEN_REPOSITORY", f"http://127.0.0.1:{self.server.server_port}/maven2/")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        repository = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                repository.requests.append(self.path)
                self.send_response(repository.refusals.pop() if repository.refusals else 200)
                self.end_headers()
                self.wfile.write(repository.content)

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[_Repository]:
    found = _Repository(tmp_path, monkeypatch)
    yield found
    found.server.shutdown()
    found.server.server_close()


def test_second_call_neither_fetches_nor_hashes(
    repository: _Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first,) = jars.spark_jars(tmp_path / "cache")
    assert first.read_bytes() == b"content"

    def no_hash(path: Path) -> str:
        raise AssertionError(f"hashed {path}")

    monkeypatch.setattr(jars, "sha256", no_hash)
    assert jars.spark_jars(tmp_path / "cache") == [first]
    assert repository.requests == ["/maven2/org/one/thing/1.0/thing-1.0.jar"]


def test_jar_with_another_content_is_refused_by_name(repository: _Repository, tmp_path: Path) -> None:
    repository.content = b"another"  # of the same length
    with pytest.raises(MissingDependencyError, match=r"thing-1\.0\.jar has another sha256"):
        jars.spark_jars(tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache" / "spark").iterdir()] == []


def test_damaged_cache_is_filled_again(repository: _Repository, tmp_path: Path) -> None:
    (jar,) = jars.spark_jars(tmp_path / "cache")
    jar.write_bytes(b"damaged!")
    jars.spark_jars(tmp_path / "cache")
    assert jar.read_bytes() == b"content"


def test_jar_of_the_users_maven_repository_is_not_fetched(repository: _Repository, tmp_path: Path) -> None:
    local = tmp_path / "home" / ".m2" / "repository" / "org/one/thing/1.0/thing-1.0.jar"
    local.parent.mkdir(parents=True)
    local.write_bytes(b"content")
    assert [jar.name for jar in jars.spark_jars(tmp_path / "cache")] == ["thing-1.0.jar"]
    local.write_bytes(b"another")
    jars.spark_jars(tmp_path / "second cache")
    assert len(repository.requests) == 1


def test_repository_that_is_busy_for_a_moment_is_asked_again(repository: _Repository, tmp_path: Path) -> None:
    repository.refusals = [503]
    jars.spark_jars(tmp_path / "cache")
    assert len(repository.requests) == 2


def test_jar_that_the_repository_does_not_have_says_what_to_do(repository: _Repository, tmp_path: Path) -> None:
    repository.refusals = [404]
    with pytest.raises(MissingDependencyError, match=r"thing-1\.0\.jar cannot be fetched .*HEADRACE_MAVEN_REPOSITORY"):
        jars.spark_jars(tmp_path / "cache")
    assert len(repository.requests) == 1


def test_cache_folder_is_the_users_and_changes_with_the_lock(
    repository: _Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HEADRACE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    before = jars.default_cache()
    assert before.parent == tmp_path / "xdg" / "headrace"
    with jars.JARS_LOCK.open("a") as lock:
        lock.write("broker a/other-1.0.jar 1 " + "0" * 64)
    assert jars.default_cache() != before
    monkeypatch.setenv("HEADRACE_CACHE", str(tmp_path / "own"))
    assert jars.default_cache().parent == tmp_path / "own"


def test_unreadable_lock_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "jars.lock").write_text("spark thing-1.0.jar\n")
    with pytest.raises(MissingDependencyError, match=r"jars\.lock cannot be read"):
        jars.read_lock(tmp_path / "jars.lock")
