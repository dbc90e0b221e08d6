"""The day's page: what the tables say, in a real browser, and nothing that a product's name might smuggle in."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from resources.lakehouse import LakehouseResource
from tests.spark.report_cases import append_events, event, materialize_days, read_rows

NOON = datetime(2024, 2, 29, 12, 0, tzinfo=UTC)
HOSTILE = "<script>document.title='stolen'</script>"
BROWSER = next((path for name in ("chromium", "google-chrome", "chrome") if (path := shutil.which(name))), None)


def open_in_browser(page: Path, folder: Path, *options: str) -> str:
    """Chromium's standard output; its profile stays in `folder`."""
    assert BROWSER is not None
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}", *options]
    done = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_the_page_shows_in_a_browser_what_the_tables_say(lakehouse: LakehouseResource, tmp_path: Path) -> None:
    events = [event(f"u{n}", NOON + timedelta(minutes=n), product_id="p1") for n in range(5)]
    events += [event("u1", NOON + timedelta(minutes=9), "purchase", "p1", 12.5)]
    events += [event("u1", NOON + timedelta(minutes=9), "purchase", HOSTILE, 1.0, device_type=HOSTILE)]
    append_events(lakehouse, events)
    materialize_days(lakehouse, "2024-02-29")

    page = Path(lakehouse.root_uri, "_reports", "2024-02-29.html")
    shown = open_in_browser(page, tmp_path / "profile", "--dump-dom")
    figures = dict(re.findall(r'<b id="(\w+)">([^<]*)</b>', shown))
    rows = read_rows(lakehouse, "gold.session_report")
    sessions, bounces = (sum(row[name] for row in rows) for name in ("sessions", "bounced_sessions"))
    assert figures == {
        "sessions": "5",
        "revenue": "13.50",
        "conversion": "20.0%",
        "bounces": f"{bounces / sessions:.1%}",
    }
    assert "<title>The day 2024-02-29</title>" in shown
    assert "provisional" in shown
    assert "<script" not in shown
    assert html.escape(HOSTILE, quote=False) in shown

    picture = tmp_path / "page.png"
    open_in_browser(page, tmp_path / "profile", f"--screenshot={picture}", "--window-size=1000,1400")
    assert picture.read_bytes().startswith(b"\x89PNG")
