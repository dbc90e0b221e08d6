"""Trouble and its end are told once each, to a real HTTP server, and again when it did not take them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from pydantic import SecretStr

from jobs.definitions.notifications import (
    Condition,
    build_notifications,
    describe_groups,
    find_changes,
)
from jobs.supervision.dagster_home import ensure_dagster_home
from jobs.supervision.model import Phase, SupervisorState
from platform_assets.errors import SettingError
from resources import webhook as webhooks
from resources.settings import Settings, load_settings
from tests.webhook_server import Webhook, running_webhook


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with running_webhook() as server:
        yield server


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    monkeypatch.setenv("DAGSTER_HOME", str(ensure_dagster_home(Settings(home=tmp_path))))
    with dg.DagsterInstance.get() as instance:
        yield instance


class Sensor:
    """The sensor with its cursor, over one check `ledger` of `silver.events`."""

    def __init__(self, instance: dg.DagsterInstance, url: str) -> None:
        self.cursor: str | None = None
        self.instance = instance
        self.passed, self.severity = True, dg.AssetCheckSeverity.ERROR
        sensor = build_notifications(Settings(notify_url=SecretStr(url)))
        self.check = self._build_check()
        self.job = dg.define_asset_job("check", dg.AssetSelection.checks(self.check))
        self.definitions = dg.Definitions(
            assets=[dg.AssetSpec(["silver", "events"])], asset_checks=[self.check], sensors=[sensor], jobs=[self.job]
        )
        self.sensor = sensor

    def _build_check(self) -> dg.AssetChecksDefinition:
        @dg.asset_check(asset=["silver", "events"], name="ledger")
        def ledger() -> dg.AssetCheckResult:
            return dg.AssetCheckResult(
                passed=self.passed,
                severity=self.severity,
                description="{'user_id': 'ann-7'} is lost.",
                metadata={"ledger/rows_in": 3400, "lost": 2, "first": "ann-7", "headrace/version": 9},
            )

        return ledger

    def run_check(self, *, passed: bool, severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR) -> None:
        self.passed, self.severity = passed, severity
        self.definitions.resolve_job_def("check").execute_in_process(instance=self.instance)

    def tick(self) -> str:
        context = dg.build_sensor_context(self.instance, cursor=self.cursor, definitions=self.definitions)
        result = self.sensor(context)
        assert isinstance(result, dg.SensorResult) and result.skip_reason is not None
        self.cursor = result.cursor
        return result.skip_reason.skip_message or ""


def test_a_red_check_is_told_once_and_its_end_once(instance: dg.DagsterInstance, webhook: Webhook) -> None:
    sensor = Sensor(instance, webhook.url)
    for _ in range(2):
        sensor.run_check(passed=True)
        assert sensor.tick() == "Nothing new."
    for _ in range(2):
        sensor.run_check(passed=False)
        sensor.tick()
    sensor.run_check(passed=False, severity=dg.AssetCheckSeverity.WARN)
    sensor.tick()
    sensor.run_check(passed=True)
    sensor.tick()
    sensor.tick()
    subject = "check ledger of silver.events"
    assert webhook.messages == [
        {
            "subject": subject,
            "state": "ERROR",
            "text": f"{subject} failed as ERROR: rows in 3,400, lost 2. The reason is on the table's page in Dagster.",
        },
        {"subject": subject, "state": "well", "text": f"{subject} passes again."},
    ]


def test_what_the_webhook_does_not_take_is_told_again(instance: dg.DagsterInstance, webhook: Webhook) -> None:
    sensor = Sensor(instance, webhook.url)
    sensor.run_check(passed=False)
    webhook.status = 503
    assert sensor.tick() == "The webhook of HEADRACE_NOTIFY_URL took no message (HTTP 503); it is told again."
    webhook.status = 200
    sensor.tick()
    assert len(webhook.messages) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("location", ["", "/secret", "ftp://secret", "http://[secret"])
def test_a_redirect_is_not_followed_and_nothing_is_taken(webhook: Webhook, status: int, location: str) -> None:
    webhook.status, webhook.location = status, f"{webhook.url}/secret" if location == "/secret" else location
    with pytest.raises(webhooks.NotTakenError) as refused:
        webhooks.post(webhook.url, {"text": "t"})
    assert str(refused.value) == f"HTTP {status}, a redirect, which is not followed"
    assert not webhook.followed and not webhook.messages


def test_an_answer_that_is_no_http_is_named_without_its_text() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"secret\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(webhooks.NotTakenError) as refused:
            webhooks.post(f"http://127.0.0.1:{server.getsockname()[1]}/hook", {"text": "t"})
        thread.join()
    assert str(refused.value) == "no answer in HTTP, BadStatusLine"


@pytest.mark.parametrize("cursor", ["no JSON", "[]", "7"])
def test_a_cursor_that_somebody_has_edited_is_forgotten(
    instance: dg.DagsterInstance, webhook: Webhook, cursor: str
) -> None:
    sensor = Sensor(instance, webhook.url)
    sensor.cursor = cursor
    assert sensor.tick() == "Nothing new."


def test_a_webhook_that_is_not_there_is_named_by_its_setting_only(instance: dg.DagsterInstance) -> None:
    sensor = Sensor(instance, "http://127.0.0.1:9/secret")
    sensor.run_check(passed=False)
    said = sensor.tick()
    assert "HEADRACE_NOTIFY_URL" in said and "secret" not in said


def test_a_hold_is_told_with_its_reason_and_a_restart_is_not() -> None:
    def told(phase: Phase, said: dict[str, str]) -> list[Condition]:
        return find_changes(describe_groups({"g": SupervisorState(phase, 0.0, (), "why and what to do")}), said)

    for phase in (Phase.HELD_CRASH_LOOP, Phase.HELD_OPERATOR, Phase.NEEDS_ATTENTION, Phase.ORPHAN):
        assert told(phase, {}) == [Condition("group g", phase, f"g: {phase}: why and what to do")]
        assert told(phase, {"group g": phase}) == []
        assert told(Phase.STARTING, {"group g": phase}) == []
        assert told(Phase.RUNNING, {"group g": phase}) == [Condition("group g", "well", "g: RUNNING again.")]
    for phase in (Phase.RUNNING, Phase.BACKOFF, Phase.FAILING):
        assert told(phase, {}) == []


def test_without_a_webhook_the_sensor_is_off(instance: dg.DagsterInstance) -> None:
    assert build_notifications(Settings()).default_status is dg.DefaultSensorStatus.STOPPED
    assert build_notifications(Settings(notify_url=SecretStr("https://x"))).default_status is (
        dg.DefaultSensorStatus.RUNNING
    )


@pytest.mark.parametrize(
    "url",
    [
        "ftp://token",
        "https://x/a token",
        "https://x/token\n",
        "https://x/tokené",
        "https://bücher.example/token",
        "https:///token",
        "https://:443/token",
        "https://x:port/token",
        "https://x:99999/token",
        "https://[::1/token",
        "https://user:token@x/",
        "//x/token",
        "x/token",
    ],
)
def test_an_address_that_is_no_webhook_is_refused_without_being_repeated(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("HEADRACE_NOTIFY_URL", url)
    load_settings.cache_clear()
    with pytest.raises(SettingError, match="HEADRACE_NOTIFY_URL") as refused:
        load_settings()
    assert "token" not in str(refused.value)
    load_settings.cache_clear()
