"""S3 itself: no commit of two writers is lost, folders behave, and trouble is named with what to do."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jobs.operations.audit import audited, describe_act
from platform_assets.errors import StorageError, StoreUnavailableError
from platform_assets.folders import Folder
from platform_assets.tables.platform import AUDIT_LOG
from resources.lakehouse import LakehouseResource
from tests.integration.s3_lakehouse import build_settings
from tests.integration.s3_writer import SPEC
from tests.integration.supervised_platform import ROOT
from tests.s3_server import BUCKET, S3Server, running_s3

COMMITS = 60


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with running_s3() as server:
        yield server


def lakehouse_at(tmp_path: Path, root: str, options: dict[str, str]) -> LakehouseResource:
    return LakehouseResource.from_settings(build_settings(tmp_path, root, options))


def test_of_two_writers_commits_none_is_lost(server: S3Server, tmp_path: Path) -> None:
    """Both begin at the same moment and commit as fast as they can: each is refused now and then, and repeats."""
    root = f"s3://{BUCKET}/{tmp_path.name}"
    lakehouse = lakehouse_at(tmp_path, root, server.options)
    env = {**os.environ, "HEADRACE_LAKEHOUSE": root, "HEADRACE_STORAGE_OPTIONS": json.dumps(server.options)}
    writers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.integration.s3_writer", name, str(COMMITS)],
            cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        for name in ("one", "two")
    ]  # fmt: skip
    for writer in writers:
        assert writer.stdout is not None and writer.stdout.readline() == b"ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write(b"go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=120)
        assert writer.returncode == 0
    table = lakehouse.delta_table(SPEC.name)
    assert table.version() == 2 * COMMITS
    written = sorted((row["writer"], row["n"]) for row in table.to_pyarrow_table().to_pylist())
    assert written == [(name, n) for name in ("one", "two") for n in range(COMMITS)]
    versions = [commit.get("operation") for commit in table.history()]
    assert versions == ["WRITE"] * (2 * COMMITS) + ["CREATE TABLE"]


def test_a_removed_folder_leaves_nothing_by_which_spark_would_know_it(server: S3Server, tmp_path: Path) -> None:
    folder = Folder(f"s3://{BUCKET}/{tmp_path.name}", server.options)
    folder.files.create_dir("query/offsets")  # as Hadoop does
    uri = folder.write_file("query/offsets/0", b"v1")
    assert uri.endswith("/query/offsets/0") and folder.list_files() == ["query/offsets/0"]
    folder.write_file("query/offsets/0", b"v2")
    assert folder.read_file("query/offsets/0") == b"v2" and folder.read_file("query/none") is None
    folder.move("query", "kept")
    assert folder.list_files("query") == [] and folder.list_files("kept") == ["kept/offsets/0"]
    folder.remove("kept/offsets/0")
    folder.remove("query")
    folder.remove("none")
    assert folder.list_files() == []


@pytest.mark.parametrize(
    ("root", "options", "says"),
    [
        (f"s3://{BUCKET}/x", {"aws_secret_access_key": "wrong"}, "HEADRACE_STORAGE_OPTIONS"),
        (f"s3://{BUCKET}/x", {"aws_access_key_id": "nobody"}, "refuses the account"),
        ("s3a://no-such-bucket/x", {}, "no bucket no-such-bucket. Create it"),
    ],
)
def test_what_a_person_must_do_is_named(
    server: S3Server, tmp_path: Path, root: str, options: dict[str, str], says: str
) -> None:
    with pytest.raises(StorageError, match=says) as raised:
        lakehouse_at(tmp_path, root, server.options | options).check_writable()
    assert "wrong" not in str(raised.value)


def test_nothing_is_changed_where_the_store_refuses_the_row_of_the_audit_log(server: S3Server, tmp_path: Path) -> None:
    root, changed = f"s3://{BUCKET}/{tmp_path.name}", []
    refused = lakehouse_at(tmp_path, root, server.options | {"aws_secret_access_key": "wrong"})
    act = describe_act("replay --swap", "a test", {"stream": "sessions"})
    with pytest.raises(StorageError, match=r"^Nothing was changed, .* refuses the account"), audited(refused, act):
        changed.append("a table")
    lakehouse = lakehouse_at(tmp_path, root, server.options)
    assert not changed and lakehouse.find_table(AUDIT_LOG.name) is None
    with audited(lakehouse, act):
        changed.append("a table")
    rows = lakehouse.delta_table(AUDIT_LOG.name).to_pyarrow_table()
    assert sorted(rows["outcome"].to_pylist()) == ["begun", "finished"]


@pytest.mark.long
def test_a_store_that_is_away_is_transient_and_comes_back_with_what_it_had(server: S3Server, tmp_path: Path) -> None:
    lakehouse = lakehouse_at(tmp_path, f"s3://{BUCKET}/{tmp_path.name}", server.options)
    lakehouse.check_writable()
    assert lakehouse.folder.list_files() == []
    lakehouse.folder.write_file("kept", b"x")
    with server.away(), pytest.raises(StoreUnavailableError, match="does not answer"):
        lakehouse.check_writable()
    lakehouse.check_writable()
    assert lakehouse.folder.read_file("kept") == b"x"


def test_a_store_that_asks_for_patience_is_transient(server: S3Server, tmp_path: Path) -> None:
    with _busy_store() as port:
        options = server.options | {"aws_endpoint_url": f"http://127.0.0.1:{port}"}
        with pytest.raises(StoreUnavailableError, match="aws_endpoint_url"):
            lakehouse_at(tmp_path, f"s3://{BUCKET}/x", options).check_writable()


@contextmanager
def _busy_store() -> Iterator[int]:
    """Answers everybody with 503."""

    class Busy(http.server.BaseHTTPRequestHandler):
        def refuse(self) -> None:
            self.send_response(503)
            self.send_header("Content-Length", "0")
            self.send_header("Connection", "close")
            self.end_headers()

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = refuse  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Busy) as store:
        threading.Thread(target=store.serve_forever, daemon=True).start()
        yield store.server_port
        store.shutdown()
