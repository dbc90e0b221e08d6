"""Channels tell of `platform.alerts` at least once, to a real webhook and mail server, and stay calm in a storm."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from platform_assets.alerting.alert_table import open_alert_table
from platform_assets.alerting.channel_follower import ChannelFollower
from platform_assets.alerting.channels import Channel, MailChannel, WebhookChannel, build_channels
from platform_assets.errors import AlertNotTakenError
from resources.mail_settings import parse_server
from resources.ports import free_port
from resources.settings import Settings
from tests.secured_broker import Certificates
from tests.unit.alerting.raised_table import RaisedTable, build_row
from tests.webhook_server import Webhook, running_webhook

USER, PASSWORD = "shop@127.0.0.1", "p/w:secret"


@dataclass
class MailBox:
    """A mail server on loopback. `refused` receivers are refused; `is_away`: it takes no mail."""

    port: int = 0
    mails: list[EmailMessage] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    is_away: bool = False
    was_encrypted: list[bool] = field(default_factory=list)

    async def handle_RCPT(  # noqa: N802 (the name that the server calls)
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.refused:
            return "550 nobody of that name"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        if self.is_away:
            return "451 come again"
        assert isinstance(envelope.content, bytes)
        self.was_encrypted.append(session.ssl is not None)
        self.mails.append(BytesParser(policy=default).parsebytes(envelope.content))
        return "250 OK"


def authenticate(
    server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: LoginPassword | Any
) -> AuthResult:
    is_known = data.login == USER.encode() and data.password == PASSWORD.encode()
    return AuthResult(success=is_known, handled=False)


@pytest.fixture
def mail_box() -> Iterator[MailBox]:
    box = MailBox()
    box.port = free_port()
    controller = Controller(box, hostname="127.0.0.1", port=box.port, ready_timeout=60.0)
    controller.start()
    yield box
    controller.stop()


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with running_webhook() as server:
        yield server


@dataclass
class Told:
    """Alerts of one table and a channel that follows them."""

    raised: RaisedTable
    channel: Channel
    calm_seconds: float = 0.0

    def __post_init__(self) -> None:
        self.raised.create()
        open_alert_table(self.raised.lakehouse)
        self.alert = self.raised.build()
        self.follower = self.build()
        self.advance()

    def build(self) -> ChannelFollower:
        return ChannelFollower(self.channel, self.raised.lakehouse, self.raised.engine, calm_seconds=self.calm_seconds)

    def advance(self) -> None:
        self.raised.follow(self.alert)
        while self.follower.advance():
            pass


def test_a_webhook_is_told_what_opens_and_closes_in_words_and_values(raised: RaisedTable, webhook: Webhook) -> None:
    told = Told(raised, WebhookChannel(webhook.url))
    raised.append([build_row("a", 31.0, 1, "ann"), build_row("b\n\x1b[2J\u202e", 32.5, 1)])
    told.advance()
    raised.append([build_row("a", 35.0, 2)])
    told.advance()
    raised.append([build_row("a", 20.0, 3)])
    told.advance()
    first, second = webhook.messages
    assert first["text"].splitlines()[0] == "warning: 2 opened (too_hot 2)"
    assert first["text"].splitlines()[1].startswith("warning too_hot a opened: a has 31.0 degrees [")
    assert first["text"].splitlines()[2].startswith("warning too_hot b  [2J  opened: b  [2J  has 32.5 degrees [")
    assert [each["key"] for each in first["alerts"]] == ["a", "b\n\x1b[2J\u202e"] and first["more"] == 0
    assert "ann" not in str(first) and "user_id" not in first["alerts"][0]
    assert second["text"].startswith("warning: 1 closed (too_hot 1)")
    assert second["alerts"][0]["alert_id"] == first["alerts"][0]["alert_id"]


def test_what_a_webhook_does_not_take_is_told_again_and_nothing_is_left_out(
    raised: RaisedTable, webhook: Webhook
) -> None:
    told = Told(raised, WebhookChannel(webhook.url))
    webhook.status = 503
    raised.append([build_row("a", 31.0, 1)])
    with pytest.raises(AlertNotTakenError, match=r"HEADRACE_ALERTS_URL took no message \(HTTP 503\)"):
        told.advance()
    told.follower.close()
    raised.append([build_row("b", 31.0, 2)])
    webhook.status = 200
    told.advance()
    assert [each["key"] for message in webhook.messages for each in message["alerts"]] == ["a", "b"]
    # Another host goes on behind it.
    told.follower = told.build()
    told.advance()
    assert len(webhook.messages) == 1


def test_one_that_opens_and_closes_meanwhile_is_told_once(raised: RaisedTable, webhook: Webhook) -> None:
    told = Told(raised, WebhookChannel(webhook.url))
    raised.append([build_row("a", 31.0, 1)])
    raised.follow(told.alert)
    raised.append([build_row("a", 20.0, 2)])
    told.advance()
    [message] = webhook.messages
    assert [each["transition"] for each in message["alerts"]] == ["closed"]


def test_a_storm_is_a_few_messages_and_each_alert_is_in_the_table(
    raised: RaisedTable, webhook: Webhook, mail_box: MailBox
) -> None:
    server = parse_server(f"smtp://127.0.0.1:{mail_box.port}")
    told = Told(raised, WebhookChannel(webhook.url), calm_seconds=3600.0)
    mail = Told(raised, MailChannel(server, "shop@example.com", ["one@example.com"]), calm_seconds=3600.0)
    told.follower._sent_at = mail.follower._sent_at = -3600.0
    for part in range(5):
        raised.append([build_row(f"k{part}-{number}", 31.0, 1) for number in range(2000)])
    raised.follow(told.alert)
    for _ in range(3):
        told.advance()
        mail.advance()
    assert len(raised.read()) == 10_000
    [message] = webhook.messages
    assert message["text"].splitlines()[0] == "warning: 10,000 opened (too_hot 10,000)"
    assert len(message["alerts"]) == 20 and message["more"] == 9_980
    assert message["text"].splitlines()[-1].startswith("and 9,980 more: headrace alerts list")
    assert [each["Subject"] for each in mail_box.mails] == ["[headrace] warning: 10,000 opened (too_hot 10,000)"]
    # What comes within the calm waits for its end.
    raised.append([build_row("late", 31.0, 1)])
    told.advance()
    assert len(webhook.messages) == 1 and told.follower.behind_since is not None


def test_a_mail_has_a_line_an_alert_and_who_is_refused_keeps_nobody_from_it(
    raised: RaisedTable, mail_box: MailBox, caplog: pytest.LogCaptureFixture
) -> None:
    server = parse_server(f"smtp://127.0.0.1:{mail_box.port}")
    told = Told(raised, MailChannel(server, "shop@example.com", ["one@example.com", "gone@example.com"]))
    mail_box.refused = {"gone@example.com"}
    raised.append([build_row("a", 31.0, 1), build_row("ü" * 400, 31.0, 1)])
    told.advance()
    [mail] = mail_box.mails
    assert mail["Subject"] == "[headrace] warning: 2 opened (too_hot 2)" and mail["Auto-Submitted"] == "auto-generated"
    lines = mail.get_content().splitlines()
    assert lines[0].startswith("warning too_hot a opened: a has 31.0 degrees [") and "ü" * 400 in lines[1]
    assert "refuses gone@example.com" in caplog.text
    mail_box.refused = {"one@example.com", "gone@example.com"}
    raised.append([build_row("b", 31.0, 1)])
    with pytest.raises(AlertNotTakenError, match=r"it refuses gone@example\.com, one@example\.com"):
        told.advance()
    mail_box.refused = set()
    mail_box.is_away = True
    with pytest.raises(AlertNotTakenError, match=r"took no mail \(code 451\)"):
        told.advance()
    mail_box.is_away = False
    told.advance()
    assert len(mail_box.mails) == 2


def test_a_mail_server_with_a_log_in_and_tls(
    raised: RaisedTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificates = Certificates(tmp_path / "certificates")
    both = certificates.issue("mail", "127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    box = MailBox()
    port = free_port()
    controller = Controller(
        box, hostname="127.0.0.1", port=port, tls_context=context, require_starttls=True,
        authenticator=authenticate, auth_required=True, ready_timeout=60.0,
    )  # fmt: skip
    controller.start()
    account = USER.replace("@", "%40")
    good, bad = (f"smtp://{account}:{word}@127.0.0.1:{port}" for word in ("p%2Fw%3Asecret", "other"))
    told = Told(raised, MailChannel(parse_server(good), "shop@example.com", ["one@example.com"]))
    raised.append([build_row("a", 31.0, 1)])
    try:
        with pytest.raises(AlertNotTakenError, match="certificate verify failed"):
            told.advance()
        monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca))
        told.channel._server = parse_server(bad)  # type: ignore[attr-defined]
        with pytest.raises(AlertNotTakenError, match="the log-in is refused, code 535") as refused:
            told.advance()
        assert "other" not in str(refused.value)
        told.channel._server = parse_server(good)  # type: ignore[attr-defined]
        told.advance()
    finally:
        controller.stop()
    assert len(box.mails) == 1 and box.was_encrypted == [True]
    assert PASSWORD not in repr(parse_server(good))


def test_a_server_that_is_not_there_is_one_line(raised: RaisedTable) -> None:
    channel = MailChannel(parse_server("smtp://127.0.0.1:1"), "shop@example.com", ["one@example.com"])
    told = Told(raised, channel)
    raised.append([build_row("a", 31.0, 1)])
    with pytest.raises(AlertNotTakenError, match=r"127\.0\.0\.1:1 took no mail \(.*refused"):
        told.advance()


def test_the_settings_make_the_channels(webhook: Webhook) -> None:
    settings = Settings.model_validate(
        {
            "alerts": "all",
            "alerts_url": webhook.url,
            "alerts_smtp_url": "smtps://mail.example.com",
            "alerts_mail_from": "shop@example.com",
            "alerts_mail_to": "one@example.com, two@example.com",
        }
    )
    first, second = build_channels(settings, None)
    assert (first.name, second.name) == ("webhook", "mail")
    assert isinstance(second, MailChannel) and second._receivers == ("one@example.com", "two@example.com")
    assert second._server.port == 465 and second._server.is_tls
