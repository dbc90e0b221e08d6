"""The live page over HTTP: who may read it, what it never does, and how many may look for the cost of one."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from jobs.cli.__main__ import main
from jobs.page.board import MOST_VIEWERS, Board, PageState
from jobs.page.page_reader import PageReader, PanelState
from jobs.page.panels import load_panels
from jobs.page.platform_view import PlatformView
from jobs.page.server import build_app, serving_page
from jobs.platform.live_page import check_page_port
from jobs.supervision.dagster_home import ensure_dagster_home
from jobs.watching.platform_reading import PlatformReading
from platform_assets.errors import NotReadyError, SettingError
from platform_assets.streams import load_stream_groups
from resources.duckdb import DuckDBResource
from resources.lakehouse import LakehouseResource
from resources.ports import free_port
from resources.settings import Settings, load_settings
from tests.shop_lake import write_shop
from tests.spark.report_cases import event

LIMIT_SECONDS = 60.0


def read_nothing() -> PlatformReading:
    raise NotReadyError("There is no Dagster instance yet.")


class CountingReader(PageReader):
    """Counts how often it is asked, and may hang as a store does."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.count = 0
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def refresh(self, platform: PlatformView, now: datetime) -> Mapping[str, PanelState]:
        self.count += 1
        self.may_go_on.wait(LIMIT_SECONDS)
        return super().refresh(platform, now)


@contextmanager
def served(lakehouse: LakehouseResource, settings: Settings) -> Iterator[tuple[int, CountingReader]]:
    engine = DuckDBResource.from_settings(settings)
    reader = CountingReader(lakehouse, engine, load_panels(), load_stream_groups())
    with closing(reader), serving_page(build_app(reader, load_panels(), read_nothing), 0) as port:
        yield port, reader


def get(port: int, path: str = "/", method: str = "GET", **headers: str) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_SECONDS)
    with closing(connection):
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()


class Viewer:
    """Somebody who follows the page, by a plain client."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_SECONDS)
        self._connection.request("GET", "/live")
        self.answer = self._connection.getresponse()
        self.panels: dict[str, str] = {}

    def read(self) -> dict[str, Any]:
        """The next event's data."""
        while (line := self.answer.readline()) and not line.startswith(b"data: "):
            pass
        if not line:
            raise EOFError
        state: dict[str, Any] = json.loads(line.removeprefix(b"data: "))
        self.panels |= state["panels"]
        return state

    def read_until(self, text: str) -> dict[str, Any]:
        """The first event whose status has this text, or whose panels have it."""
        deadline = time.monotonic() + LIMIT_SECONDS
        while time.monotonic() < deadline:
            state = self.read()
            if text in state["status"] or any(text in html for html in state["panels"].values()):
                return state
        raise TimeoutError(text)

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def shop(lakehouse: LakehouseResource) -> LakehouseResource:
    write_shop(lakehouse, [event("u1", datetime.now(UTC), "purchase", "p1", revenue=12.5, currency="EUR")])
    return lakehouse


def test_the_page_is_a_document_of_its_own(shop: LakehouseResource, settings: Settings) -> None:
    with served(shop, settings) as (port, _):
        deadline = time.monotonic() + 30
        while "12.50" not in (answer := get(port))[2]:  # until the tables are read for the first time
            assert time.monotonic() < deadline
            time.sleep(0.1)
        status, headers, page = answer
        assert status == 200 and "Top products" in page
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff" and headers["cache-control"] == "no-store"
        # Below any prefix of a reverse proxy: no address begins at the root, and none leads elsewhere.
        addresses = re.findall(r'(?:href|src)="([^"]*)"', page)
        assert addresses and not [each for each in addresses if each.startswith("/") or ":" in each]
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?! type=\"module\" src=)", page)
        for name in ("page.css", "page.js", "icon.svg"):
            assert get(port, f"/{name}")[0] == 200
        assert "http" not in get(port, "/page.js")[2] and "url(" not in get(port, "/page.css")[2]


@pytest.mark.parametrize("host", ["evil.example", "evil.example:3001", "127.0.0.1.evil.example", ""])
def test_another_name_is_refused(host: str, shop: LakehouseResource, settings: Settings) -> None:
    with served(shop, settings) as (port, _):
        for path in ("/", "/live", "/page.js"):
            status, headers, body = get(port, path, Host=host)
            assert status == 400 and "12.50" not in body and "content-security-policy" in headers
        assert get(port, Host=f"localhost:{port}")[0] == 200


def test_nothing_can_be_changed(shop: LakehouseResource, settings: Settings) -> None:
    with served(shop, settings) as (port, _):
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            assert get(port, method=method)[0] == 405
        assert get(port, "/../settings.py")[0] == get(port, "/panels/revenue.html")[0] == 404


def test_a_commit_reaches_all_viewers_by_one_reading(shop: LakehouseResource, settings: Settings) -> None:
    with served(shop, settings) as (port, reader):
        viewers = [Viewer(port) for _ in range(20)]
        for viewer in viewers:
            viewer.read_until("12.50")
        began, before = time.monotonic(), reader.count
        write_shop(shop, [event("u2", datetime.now(UTC), "purchase", "p77", revenue=99.25, currency="EUR")], 1)
        states = [viewer.read_until("99.25") for viewer in viewers]
        # By a reader for each there would be twenty times as many; by the clock it is one a second.
        assert reader.count - before <= time.monotonic() - began + 2
        assert len({json.dumps(state) for state in states}) == 1
        assert all("p77" in viewer.panels["top_products"] for viewer in viewers)
        for viewer in viewers:
            viewer.close()


def test_a_page_that_nobody_looks_at_costs_nothing(
    shop: LakehouseResource, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.page.refresher._LINGER_SECONDS", 1.0)
    with served(shop, settings) as (port, reader):
        viewer = Viewer(port)
        viewer.read_until("12.50")
        viewer.close()
        counts = [reader.count]
        while len(counts) < 3 or counts[-1] != counts[-3]:  # it is found out by the next event that nobody takes
            time.sleep(1.5)
            counts.append(reader.count)
            assert len(counts) < LIMIT_SECONDS
        assert "12.50" in get(port)[2] and reader.count > counts[-1]


def test_a_store_that_hangs_is_said(
    shop: LakehouseResource, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.page.refresher._SLOW_SECONDS", 0.2)
    with served(shop, settings) as (port, reader):
        viewer = Viewer(port)
        state = viewer.read_until("Live")
        reader.may_go_on.clear()
        stands = viewer.read_until("slow to answer")
        assert not stands["is_live"] and stands["at"] >= state["at"] and "as of 20" in stands["status"]
        assert "12.50" in get(port)[2]
        reader.may_go_on.set()
        assert viewer.read_until("Live")["is_live"]
        viewer.close()


def test_a_lakehouse_without_tables_is_said(lakehouse: LakehouseResource, settings: Settings) -> None:
    with served(lakehouse, settings) as (port, _):
        status, _, page = get(port)
        assert status == 200 and "There are no tables yet" in page and page.count("hidden>") >= len(load_panels()) - 1


def test_a_host_that_is_killed_is_shown_as_down(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process beats as a host does, with the real storage; viewers are on when it is killed."""
    monkeypatch.setenv("HEADRACE_HOME", str(settings.home))
    monkeypatch.setenv("HEADRACE_HEARTBEAT_TIMEOUT_SECONDS", "5")
    monkeypatch.setenv("DAGSTER_HOME", str(ensure_dagster_home(settings)))
    load_settings.cache_clear()
    beating = "import time, dagster as dg\nfrom tests.unit.watched_platform import WatchedPlatform\n" \
        "with dg.DagsterInstance.get() as instance:\n    host = WatchedPlatform(instance)\n" \
        "    while True: host.beat(); host.tick(); time.sleep(0.3)"  # fmt: skip
    with dg.DagsterInstance.get():
        pass  # a fresh home's database is made by one process
    host = subprocess.Popen([sys.executable, "-c", beating], cwd=Path(__file__).parents[2])
    try:
        with _page_of(load_settings()) as port:
            viewers = [Viewer(port) for _ in range(3)]
            for viewer in viewers:
                viewer.read_until(">running<")
            host.send_signal(signal.SIGKILL)
            for viewer in viewers:
                viewer.read_until(">down<")
                viewer.close()
    finally:
        host.kill()
        host.wait()
        load_settings.cache_clear()


@contextmanager
def _page_of(settings: Settings) -> Iterator[int]:
    from jobs.watching.collector import PlatformCollector

    collector = PlatformCollector(settings, load_stream_groups(), [])
    engine, lakehouse = DuckDBResource.from_settings(settings), LakehouseResource.from_settings(settings)
    with closing(PageReader(lakehouse, engine, load_panels(), load_stream_groups())) as reader, serving_page(
        build_app(reader, load_panels(), collector.read), 0
    ) as port:  # fmt: skip
        yield port


def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SettingError, match=f"HEADRACE_PAGE_PORT: port {port}"):
            check_page_port(Settings(page_port=port))
    check_page_port(Settings(page_port=0))


def test_the_command_serves_until_it_is_told_or_its_parent_ends(tmp_path: Path) -> None:
    port = free_port()
    environment = {
        "PATH": "/usr/bin:/bin", "HEADRACE_HOME": str(tmp_path), "HEADRACE_PAGE_PORT": str(port),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }  # fmt: skip
    command = [sys.executable, "-m", "jobs.cli", "page", "--attached"]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as page:
        try:
            assert page.stdout is not None and page.stdin is not None
            assert page.stdout.readline() == f"http://127.0.0.1:{port}/\n"
            assert get(port)[0] == 200
            page.stdin.close()  # as by the death of `headrace dev`
            assert page.wait(LIMIT_SECONDS) == 0
        finally:
            page.kill()


def test_the_command_without_a_port_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fresh_settings: None
) -> None:
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
    monkeypatch.setenv("HEADRACE_PAGE_PORT", "0")
    assert main(["page"]) == 1
    assert capsys.readouterr().err.startswith("headrace: HEADRACE_PAGE_PORT is 0")


def test_a_slow_viewer_gets_the_newest_and_holds_nothing_up() -> None:
    async def look() -> list[Any]:
        board = Board()
        quick, slow = board.follow(), board.follow()
        for number in range(100):
            board.publish(PageState("Live", True, None, {"a": str(number), "b": "same"}))
            await anext(quick)
        found = [json.loads((await anext(slow)).decode().split("data: ")[1])["panels"]]
        board.publish(PageState("Live", True, None, {"a": "100", "b": "same"}))
        found.append(json.loads((await anext(slow)).decode().split("data: ")[1])["panels"])
        board.close()
        assert [each async for each in slow] == []
        return found

    assert asyncio.run(look()) == [{"a": "99", "b": "same"}, {"a": "100"}]


def test_viewers_are_bounded(shop: LakehouseResource, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST_VIEWERS >= 50
    monkeypatch.setattr("jobs.page.server.MOST_VIEWERS", 1)
    with served(shop, settings) as (port, _):
        first = Viewer(port)
        first.read_until("Live")
        assert get(port, "/live")[0] == 503
        first.close()
