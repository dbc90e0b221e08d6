"""Settings say which alerts are watched for and who is told; a bad one is refused by its name, without its value."""

from __future__ import annotations

import dagster as dg
import pytest

from jobs.supervision.fingerprint import build_fingerprint
from jobs.supervision.lease import HostReport
from jobs.supervision.model import Heartbeat
from jobs.watching.platform_reading import GroupReading, PlatformReading
from jobs.watching.samples import list_samples
from platform_assets.alerting.catalogue import load_groups
from platform_assets.definitions import defs
from platform_assets.errors import SettingError
from platform_assets.streams import load_stream_groups
from resources.processes import ProcessIdentity
from resources.settings import Settings, load_settings

MAIL = {"ALERTS": "all", "ALERTS_SMTP_URL": "smtp://shop:hunter2@mail.example:587"}
TO, FROM = {"ALERTS_MAIL_TO": "a@example.com"}, {"ALERTS_MAIL_FROM": "b@example.com"}


@pytest.fixture
def with_alerts(monkeypatch: pytest.MonkeyPatch, fresh_settings: None) -> None:
    for name, value in (MAIL | TO | FROM | {"ALERTS_URL": "http://hooks.example/hunter2"}).items():
        monkeypatch.setenv(f"HEADRACE_{name}", value)


def test_alerts_and_channels_are_a_group_behind_the_others(with_alerts: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [group.name for group in load_groups()] == ["clickstream", "alerts"]
    assert load_groups()[-1].query_names == ("alert_events_refused", "channel_webhook", "channel_mail")
    assert "hunter2" not in repr(load_settings())
    monkeypatch.setenv("HEADRACE_GROUPS", "all")
    load_settings.cache_clear()
    assert "alert_fraud_suspected" in load_groups()[-1].query_names


def test_without_alerts_there_is_no_such_group(fresh_settings: None) -> None:
    assert [group.alerts for group in load_groups()] == [()]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"ALERTS": "nothing"}, "HEADRACE_ALERTS: there is no alert nothing. There are: .*, events_refused, "),
        ({"ALERTS": "fraud_suspected"}, "no enabled group writes the table of fraud_suspected: gold.fraud_alerts"),
        ({"ALERTS_URL": "http://hooks.example"}, "HEADRACE_ALERTS is empty, so that a channel has nothing to tell"),
        ({"ALERTS": "all", "ALERTS_URL": "hooks.example/hunter2"}, "HEADRACE_ALERTS_URL"),
        ({"ALERTS": "all", "ALERTS_TOPIC": "a b"}, "HEADRACE_ALERTS_TOPIC"),
        ({"ALERTS": "all", "ALERTS_SMTP_URL": "imap://a:hunter2@b"}, "ALERTS_SMTP_URL: .*is no address of a mail"),
        ({"ALERTS": "all", "ALERTS_SMTP_URL": "smtp://a@b"}, "only one of user and password"),
        ({"ALERTS": "all", "ALERTS_SMTP_URL": "smtp://a:hunter2@b/c"}, "something behind the host and port"),
        ({"ALERTS": "all", "ALERTS_SMTP_URL": "smtp://a:hunter2@b:99999"}, "is no address of a mail"),
        (MAIL | TO, "HEADRACE_ALERTS_MAIL_FROM is empty, and HEADRACE_ALERTS_SMTP_URL is not"),
        (MAIL | FROM, "HEADRACE_ALERTS_MAIL_TO is empty, and HEADRACE_ALERTS_SMTP_URL is not"),
        (MAIL | FROM | {"ALERTS_MAIL_TO": "a@example.com, nobody"}, "ALERTS_MAIL_TO: .*'nobody' is no address"),
        (MAIL | TO | {"ALERTS_MAIL_FROM": "a@x.de,b@x.de"}, "HEADRACE_ALERTS_MAIL_FROM: .*must be one address"),
    ],
)  # fmt: skip
def test_a_bad_setting_is_refused_by_its_name(
    values: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch, fresh_settings: None
) -> None:
    for name, value in values.items():
        monkeypatch.setenv(f"HEADRACE_{name}", value)
    with pytest.raises(SettingError, match=said) as refused:
        load_groups()
    assert "hunter2" not in str(refused.value)


def test_each_is_an_asset_with_its_check_and_a_job_acknowledges(with_alerts: None) -> None:
    repository = defs().get_repository_def()
    key = dg.AssetKey(["alerts", "alert_events_refused"])
    assert repository.asset_graph.get(key).parent_keys == {dg.AssetKey(["silver", "quarantined_events"])}
    channel = dg.AssetKey(["alerts", "channel_mail"])
    assert repository.asset_graph.get(channel).parent_keys == {dg.AssetKey(["platform", "alerts"])}
    checks = {check.name for check in repository.asset_graph.asset_check_keys if check.asset_key == key}
    assert checks == {"stream_running"}
    assert repository.has_job("acknowledge_alert")


def test_a_channel_more_restarts_the_alerts_and_no_stream() -> None:
    streams = load_stream_groups()[0]
    alerts = type(streams)("alerts", (), alerts=("alert_events_refused",))
    before, after = (Settings.model_validate({"alerts_url": f"http://hooks.example/{name}"}) for name in "ab")
    assert build_fingerprint(streams, before) == build_fingerprint(streams, after)
    assert build_fingerprint(alerts, before) != build_fingerprint(alerts, after)


def test_alerts_and_channels_are_watched() -> None:
    told = {"open": 3, "opened": 5, "closed": 2, "delivered": None, "behind_since": None, "trouble": ""}
    channel = {"open": None, "opened": None, "closed": None, "delivered": 7} | {
        "behind_since": "2026-01-01T00:00:00+00:00",
        "trouble": "away",
    }
    progress = {
        name: {"rows_in": 9, "lag_records": None, "alerts": each}
        for name, each in (("alert_events_refused", told), ("channel_mail", channel))
    }
    beat = Heartbeat("run", 0.0, ProcessIdentity("host", 1, "boot:1"), "running")
    reading = PlatformReading({"alerts": GroupReading(None, HostReport(beat, progress))}, None, [])
    found = {
        (sample.metric.name.removeprefix("headrace_alerts_"), sample.labels[1]): sample.value
        for sample in list_samples(reading, {"alerts": list(progress)}, 1767225600.0 + 9)
        if sample.metric.name.startswith("headrace_alerts_")
    }
    assert found == {
        ("open", "alert_events_refused"): 3, ("opened_total", "alert_events_refused"): 5,
        ("closed_total", "alert_events_refused"): 2, ("lag_seconds", "alert_events_refused"): 0.0,
        ("standing", "alert_events_refused"): False, ("delivered_total", "channel_mail"): 7,
        ("lag_seconds", "channel_mail"): 9.0, ("standing", "channel_mail"): True,
    }  # fmt: skip
