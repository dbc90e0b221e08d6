"""The live page in a real browser: sizes, colours, keyboard, axe's rules, hostile text, and what it says alone."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

from jobs.page.page_reader import PageReader
from jobs.page.panels import load_panels
from jobs.page.server import build_app, serving_page
from jobs.watching.platform_reading import GroupReading, PlatformReading, Verdict
from platform_assets.streams import load_stream_groups
from platform_assets.streams.fraud_alerts import FRAUD_ALERTS
from platform_assets.streams.telemetry_statistics import TELEMETRY_STATISTICS
from platform_assets.streams.traffic_by_minute import TRAFFIC_BY_MINUTE
from platform_assets.tables.access_logs import NETWORK_THREATS_TABLE
from platform_assets.tables.platform import ALERTS
from platform_assets.tables.telemetry import EARLY_WARNING_SCORES_TABLE, TELEMETRY_ANOMALIES_TABLE
from resources.duckdb import DuckDBResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.shop_lake import append_rows, write_ledger, write_shop
from tests.spark.report_cases import event

BROWSER = shutil.which("chromium")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")

DESKTOP, PHONE = ViewportSize(width=1280, height=900), ViewportSize(width=360, height=740)
HOSTILE = "<script>document.title='hacked'</script><img src=x onerror=\"document.title='hacked'\">"
# A loaded machine takes its time; what is waited for is a condition.
LIMIT_MILLIS = 60_000
expect.set_options(timeout=LIMIT_MILLIS)


@pytest.fixture(autouse=True)
def _slow_readings_are_no_news(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reading may take a second on a loaded machine: the status would say so, and then be live again."""
    monkeypatch.setattr("jobs.page.refresher._SLOW_SECONDS", LIMIT_MILLIS / 1000)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # Its sandbox wants rights that a container does not give.
        found = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def shop(lakehouse: LakehouseResource) -> LakehouseResource:
    """Every panel has something to show, and text that somebody has sent to do harm."""
    now = datetime.now(UTC)
    kinds = ["page_view", "add_to_cart", "purchase"]
    events = [
        {
            **event(f"u{n % 7}", now - timedelta(seconds=40 * n), kinds[n % 3], f"p{n % 5}", 9.5, currency="EUR"),
            "product_name": HOSTILE if n % 5 == 0 else f"Product {n % 5}",
        }
        for n in range(120)
    ]  # fmt: skip
    write_shop(lakehouse, events)
    write_ledger(lakehouse, "events", {"rows_in": 121, "accepted": 120, "quarantined": 1, "deduplicated": 0}, now)
    alert: dict[str, Any] = {
        "score_id": "s", "event_time": now, "scored_at": now, "score": 0.9, "amount": Decimal("12.30"),
        "currency": "EUR", "merchant_id": HOSTILE, "country": "DE", "reasons": ["amount"],
    }  # fmt: skip
    append_rows(lakehouse, FRAUD_ALERTS, [alert])
    opened: dict[str, Any] = {
        "alert_id": "a", "alert": "too_hot", "key": HOSTILE, "transition": "opened", "at": now, "severity": "critical",
        "owner": HOSTILE, "text": HOSTILE, "rows": 1, "event_time": now, "raised_at": now,
    }  # fmt: skip
    append_rows(lakehouse, ALERTS, [opened])
    _write_topics(lakehouse, now)
    return lakehouse


def _write_topics(lakehouse: LakehouseResource, now: datetime) -> None:
    """Rows for the panels of sensors and of access logs."""
    minute = {
        "window_start": now.replace(second=0, microsecond=0) - timedelta(minutes=1), "host": HOSTILE, "requests": 4_711,
        "client_errors": 12, "server_errors": 3,
    }  # fmt: skip
    append_rows(lakehouse, TRAFFIC_BY_MINUTE, [minute, minute | {"window_start": now}])
    threat = {
        "report_date": now.date(), "network": "203.0.113.9", "rule": "password_guessing", "first_at": now,
        "last_at": now, "reached_at": now, "events": 9, "peak": 7, "targets": 2, "hosts": 1, "words": HOSTILE,
    }  # fmt: skip
    append_rows(lakehouse, NETWORK_THREATS_TABLE, [threat, threat | {"rule": "burst", "logged_in_at": now}])
    window = {
        "window_start": now, "window_end": now, "sensor": "s", "kind": "systolic_pressure", "unit": "mm[Hg]",
        "readings": 3, "bad_readings": 1, "total_value": Decimal("361.5"),
    }  # fmt: skip
    append_rows(lakehouse, TELEMETRY_STATISTICS, [window])
    anomaly = {
        "report_date": now.date(), "sensor": "s", "kind": "systolic_pressure", "rule": "out_of_range",
        "start_time": now, "end_time": now, "place": HOSTILE, "readings": 3, "unit": "mm[Hg]", "severity": "critical",
        "words": HOSTILE,
    }  # fmt: skip
    append_rows(lakehouse, TELEMETRY_ANOMALIES_TABLE, [anomaly])
    score = {
        "report_date": now.date(), "sensor": "s", "hour_start": now.replace(minute=0, second=0, microsecond=0),
        "score": 7, "known_signs": 7, "missing_signs": "", "has_red_sign": True, "risk": "high",
    }  # fmt: skip
    append_rows(lakehouse, EARLY_WARNING_SCORES_TABLE, [score])


def read_platform() -> PlatformReading:
    given_at = datetime.now(UTC).timestamp() - 60
    verdicts = [
        Verdict("silver.events", "ledger", None, given_at),
        Verdict("gold.sessions", "parity", "error", given_at),
    ]
    return PlatformReading({group.name: GroupReading(None, None) for group in load_stream_groups()}, None, verdicts)


@contextmanager
def served(lakehouse: LakehouseResource, settings: Settings, port: int = 0) -> Iterator[int]:
    reader = PageReader(lakehouse, DuckDBResource.from_settings(settings), load_panels(), load_stream_groups())
    with closing(reader), serving_page(build_app(reader, load_panels(), read_platform), port) as found:
        yield found


@contextmanager
def opened(browser: Browser, port: int, **options: Any) -> Iterator[Page]:
    """The page in a window of its own; fails where the browser complains of anything."""
    complaints: list[str] = []
    context = browser.new_context(**{"viewport": DESKTOP, **options})
    context.set_default_timeout(LIMIT_MILLIS)
    page = context.new_page()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "request", lambda request: complaints.append(request.url) if f"127.0.0.1:{port}/" not in request.url else None
    )
    try:
        page.goto(f"http://127.0.0.1:{port}/")
        yield page
        assert [each for each in complaints if "net::ERR" not in each] == []
    finally:
        context.close()


def wait_until_live(page: Page) -> None:
    expect(page.locator("#status.live")).to_contain_text("Live")


def test_every_size_and_colour_is_accessible(browser: Browser, shop: LakehouseResource, settings: Settings) -> None:
    with served(shop, settings) as port:
        for size, scheme in ((DESKTOP, "light"), (DESKTOP, "dark"), (PHONE, "light"), (PHONE, "dark")):
            with opened(browser, port, viewport=size, color_scheme=scheme, reduced_motion="reduce") as page:
                wait_until_live(page)
                expect(page.locator("#panel-attention")).to_be_visible()
                assert page.locator("main section:visible").count() == len(load_panels())
                # Nothing sticks out on either side.
                assert page.evaluate("document.documentElement.scrollWidth") == size["width"]
                found = Axe().run(page)
                assert found.violations_count == 0, found.generate_report()
                assert (
                    page.evaluate("getComputedStyle(document.querySelector('.bar .part')).transitionDuration") == "0s"
                )


def test_text_of_records_does_nothing(browser: Browser, shop: LakehouseResource, settings: Settings) -> None:
    with served(shop, settings) as port, opened(browser, port) as page:
        wait_until_live(page)
        expect(page.locator("#panel-top_products")).to_contain_text(HOSTILE)
        assert page.title() == "Headrace: live"
        assert page.locator("main script, main img").count() == 0


def test_numbers_move_and_leave_focus_and_selection_alone(
    browser: Browser, shop: LakehouseResource, settings: Settings
) -> None:
    with served(shop, settings) as port, opened(browser, port) as page:
        wait_until_live(page)
        page.keyboard.press("Tab")
        expect(page.locator(".skip")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("main")).to_be_focused()
        cell = page.locator("#panel-top_products tbody td").first.element_handle()
        assert cell is not None
        sold = [event("u9", datetime.now(UTC), "purchase", "p2", revenue=1.0, currency="EUR") for _ in range(50)]
        write_shop(shop, sold, 500)
        expect(page.locator("#panel-top_products tbody td").first).to_have_text("56")
        # The cell is the one that was there: it was not made anew.
        assert cell.evaluate("element => element.isConnected") and cell.inner_text() == "56"
        expect(page.locator("main")).to_be_focused()


def test_a_panel_comes_with_its_table(browser: Browser, lakehouse: LakehouseResource, settings: Settings) -> None:
    with served(lakehouse, settings) as port, opened(browser, port) as page:
        wait_until_live(page)
        expect(page.locator("#panel-streams")).to_contain_text("There are no tables yet")
        expect(page.locator("#panel-top_products")).to_be_hidden()
        write_shop(lakehouse, [event("u1", datetime.now(UTC), "purchase", "p1", revenue=12.5, currency="EUR")])
        expect(page.locator("#panel-top_products")).to_contain_text("12.50")


def test_a_server_that_is_gone_is_said_and_found_again(
    browser: Browser, shop: LakehouseResource, settings: Settings
) -> None:
    with ExitStack() as first:
        port = first.enter_context(served(shop, settings))
        with opened(browser, port) as page:
            wait_until_live(page)
            expect(page.locator("#panel-ledger")).to_contain_text("adds up")
            first.close()
            expect(page.locator("#status.standing")).to_contain_text("does not answer")
            at = page.locator("#at").inner_text()
            assert f"as of {at} UTC" in page.locator("#status").inner_text()
            expect(page.locator("#panel-ledger")).to_contain_text("adds up")
            with served(shop, settings, port):
                wait_until_live(page)


def test_without_a_script_it_is_a_snapshot(browser: Browser, shop: LakehouseResource, settings: Settings) -> None:
    with served(shop, settings) as port, opened(browser, port, java_script_enabled=False) as page:
        # On a loaded machine the first answer may come before the numbers do, and a snapshot does not move.
        deadline = time.monotonic() + LIMIT_MILLIS / 1000
        while not page.locator("#panel-revenue", has_text="EUR").count() and time.monotonic() < deadline:
            page.reload()
        expect(page.locator("header")).to_contain_text("A snapshot")
        expect(page.locator("#panel-revenue")).to_contain_text("EUR")
        assert page.locator("main section:visible").count() >= len(load_panels()) - 1
        page.get_by_role("link", name="Load it again").click()
        expect(page.locator("#panel-revenue")).to_contain_text("EUR")


def test_a_screen_reader_finds_its_way(browser: Browser, shop: LakehouseResource, settings: Settings) -> None:
    with served(shop, settings) as port, opened(browser, port) as page:
        wait_until_live(page)
        assert page.get_by_role("main").count() == page.get_by_role("banner").count() == 1
        assert page.get_by_role("contentinfo").count() == 1
        for panel in load_panels():
            expect(page.get_by_role("region", name=panel.title, exact=True)).to_be_visible()
        line = page.get_by_role("img", name="Revenue of each minute")
        expect(line).to_be_visible()
        for table in page.get_by_role("table").all():
            assert table.get_by_role("columnheader").count() > 1
            assert table.get_by_role("rowheader").count() >= 1
        # One line alone is read out by itself, and it stands still while the page is live.
        assert page.locator("[aria-live], [role=status], [role=alert]").count() == 1
        page.evaluate(
            "window.said = 0; new MutationObserver(() => window.said++).observe(document.getElementById('status'),"
            " {childList: true, characterData: true, subtree: true})"
        )
        at = page.locator("#at").inner_text()
        expect(page.locator("#at")).not_to_have_text(at)
        assert page.evaluate("window.said") == 0


def test_the_package_has_the_page_s_own_files() -> None:
    root = Path(__file__).parents[2]
    kinds = {path.suffix for path in (root / "jobs" / "page").rglob("*") if path.is_file()} - {".py", ".pyc"}
    listed = (root / "pyproject.toml").read_text().partition("package-data]")[2].splitlines()[1]
    assert kinds == {".html", ".css", ".js", ".svg"} and all(f'"*{kind}"' in listed for kind in kinds)
