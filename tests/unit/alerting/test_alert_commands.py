"""What people see and say of alerts: the commands, the job of the web UI, the live page, and who is forgotten."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from deltalake import DeltaTable

from jobs.cli.__main__ import headrace, main
from jobs.definitions.acknowledge_alert import build_acknowledge_job
from jobs.operations.alerts import acknowledge_alert, describe, list_alerts
from jobs.operations.forgetting.alerts import erase_alerts, remove_files
from jobs.page.page_reader import PageReader
from jobs.page.panels import load_panels
from jobs.page.platform_view import PlatformView
from jobs.watching.platform_reading import PlatformReading
from platform_assets.alerting.alert_table import open_alert_table
from platform_assets.errors import UsageError
from platform_assets.tables.platform import ALERTS, AUDIT_LOG
from resources.settings import load_settings
from tests.unit.alerting.raised_table import RaisedTable, build_row


@pytest.fixture
def home(raised: RaisedTable, monkeypatch: pytest.MonkeyPatch, fresh_settings: None) -> Iterator[Path]:
    """The lakehouse of `raised` is the one of the settings; two alerts are open in it, one is closed."""
    monkeypatch.setenv("HEADRACE_HOME", str(raised.settings.home))
    load_settings.cache_clear()
    raised.create()
    follower = raised.build()
    raised.follow(follower)
    raised.append([build_row("a", 31.0, 1, "ann"), build_row("b\x1b[2J", 32.0, 1, "bob"), build_row("c", 40.0, 1)])
    raised.follow(follower)
    raised.append([build_row("c", 20.0, 2), build_row("a", 33.0, 2, "eve")])
    raised.follow(follower)
    yield raised.settings.home


def test_the_list_has_what_is_open_and_what_was_closed_lately(
    home: Path, raised: RaisedTable, capsys: pytest.CaptureFixture[str]
) -> None:
    headrace.main(["alerts", "list"], standalone_mode=False)
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.split("too_hot ")[1] for line in lines) == [
        "a: a has 31.0 degrees (2 rows, open; house)", "b [2J: b [2J has 32.0 degrees (1 rows, open; house)"
    ]  # fmt: skip
    headrace.main(["alerts", "list", "--hours", "1"], standalone_mode=False)
    assert sum(", closed " in line for line in capsys.readouterr().out.splitlines()) == 1
    old = list_alerts(raised.lakehouse, raised.engine, datetime.now(UTC) + timedelta(hours=1))
    assert len(old) == 2


def test_an_empty_lakehouse_has_no_alert(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_settings: None, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "empty"))
    headrace.main(["alerts", "list"], standalone_mode=False)
    assert capsys.readouterr().out == "No alert is open: HEADRACE_ALERTS names none.\n"


def test_who_looks_at_one_is_on_record_once(
    home: Path, raised: RaisedTable, capsys: pytest.CaptureFixture[str]
) -> None:
    first = next(each for each in list_alerts(raised.lakehouse, raised.engine) if each.key == "a")
    for _ in range(2):
        headrace.main(["alerts", "acknowledge", first.alert_id, "--because", "I call Ann"], standalone_mode=False)
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("It is on record that ") and " looks at it already, since " in said[1]
    [row] = [row for row in raised.read() if row["transition"] == "acknowledged"]
    assert (row["alert_id"], row["key"], row["reason"], row["rows"]) == (first.alert_id, "a", "I call Ann", 0)
    found = next(each for each in list_alerts(raised.lakehouse, raised.engine) if each.key == "a")
    assert found.acknowledged_by == row["by"] and f"{row['by']} looks at it" in describe(found)
    assert DeltaTable(raised.lakehouse.table_uri(AUDIT_LOG.name)).to_pyarrow_table().num_rows == 4
    # The alert's own follower goes on, and closes it.
    raised.append([build_row("a", 20.0, 5)])
    raised.follow(raised.build())
    with pytest.raises(UsageError, match=f"The alert {first.alert_id} is closed, since "):
        acknowledge_alert(raised.lakehouse, raised.engine, first.alert_id, "me", "late")


def test_one_that_there_is_not_is_named(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["alerts", "acknowledge", "x' OR 'a'='a", "--because", "test"]) == 1
    assert "There is no alert x' OR 'a'='a. headrace alerts list has those" in capsys.readouterr().err


def test_the_job_of_the_web_ui_does_the_same(home: Path, raised: RaisedTable) -> None:
    first, *_ = list_alerts(raised.lakehouse, raised.engine)
    config = {"ops": {"acknowledge": {"config": {"alert_id": first.alert_id, "reason": "I look"}}}}
    job = build_acknowledge_job()
    with dg.DagsterInstance.ephemeral() as instance:
        resources = {"lakehouse": raised.lakehouse}
        assert job.execute_in_process(config, instance, resources=resources, tags={"user": "ines"}).success
        config["ops"]["acknowledge"]["config"]["alert_id"] = "none"
        failed = job.execute_in_process(config, instance, resources=resources, raise_on_error=False)
    assert not failed.success
    assert [row["by"] for row in raised.read() if row["transition"] == "acknowledged"] == ["ines"]


def test_the_live_page_counts_what_is_open(home: Path, raised: RaisedTable) -> None:
    first, *_ = list_alerts(raised.lakehouse, raised.engine)
    acknowledge_alert(raised.lakehouse, raised.engine, first.alert_id, "ines", "I look")
    panel = next(each for each in load_panels() if each.name == "alerts")
    reader = PageReader(raised.lakehouse, raised.engine, [panel], ())
    try:
        html = reader.refresh(PlatformView(PlatformReading({}, None, [])), datetime.now(UTC))["alerts"].html
    finally:
        reader.close()
    # Two are open, and nobody looks at one of them.
    assert re.sub(r"\s*<[^>]*>\s*", "|", html.partition("<tbody>")[2]).replace("||", "|").count("|2|1|") == 1
    assert "too_hot" in html and "warning" in html and "house" in html
    assert "ann" not in html and "b\x1b" not in html


def test_the_alerts_of_a_user_who_is_forgotten_are_gone_from_every_file(home: Path, raised: RaisedTable) -> None:
    follower = raised.build()
    raised.append([build_row("ann's room", 31.0, 3, "o'ann")])
    raised.follow(follower)
    assert erase_alerts(raised.lakehouse, raised.engine, "nobody") == 0
    assert erase_alerts(raised.lakehouse, raised.engine, "o'ann") == 1
    assert erase_alerts(raised.lakehouse, raised.engine, "bob") == 1
    remove_files(raised.lakehouse)
    folder = Path(raised.lakehouse.table_uri(ALERTS.name))
    assert not [path for path in folder.rglob("*.parquet") if b"ann's room" in path.read_bytes()]
    assert {row["key"] for row in raised.read()} == {"a", "c"}
    # Whose alert was opened by somebody else stays.
    assert erase_alerts(raised.lakehouse, raised.engine, "eve") == 0
    follower = raised.build()
    raised.append([build_row("ann's room", 20.0, 4)])
    raised.follow(follower)
    assert {row["key"] for row in raised.read()} == {"a", "c"}


def test_a_lakehouse_without_alerts_has_none_to_erase(raised: RaisedTable) -> None:
    assert erase_alerts(raised.lakehouse, raised.engine, "ann") == 0
    remove_files(raised.lakehouse)
    open_alert_table(raised.lakehouse)
    assert erase_alerts(raised.lakehouse, raised.engine, "ann") == 0
