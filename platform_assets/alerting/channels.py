"""Tells people and programs of alerts: by a topic of Kafka, a webhook, or e-mail."""

from __future__ import annotations

import logging
import smtplib
import ssl
from collections.abc import Mapping, Sequence
from email.message import EmailMessage
from typing import TYPE_CHECKING, Any, Protocol

from platform_assets.alerting.message import MOST_IN_WORDS, as_value, encode, select_told, write_lines, write_title
from platform_assets.errors import AlertNotTakenError
from resources import librdkafka, webhook
from resources.kafka_topics import ensure_topic
from resources.mail_settings import MailServer, parse_server, split_addresses

if TYPE_CHECKING:
    from confluent_kafka import Producer

    from resources.kafka import KafkaResource
    from resources.settings import Settings

# A mail server that does not answer keeps no other channel waiting, but a stop.
_MAIL_SECONDS = 10.0
_FLUSH_SECONDS = 30.0
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})

Rows = Sequence[Mapping[str, Any]]

_log = logging.getLogger(__name__)


class Channel(Protocol):
    """Takes rows of `platform.alerts`. `name` is unique. `is_for_people`: some words a while, not each row."""

    name: str
    is_for_people: bool

    def send(self, rows: Rows) -> int:
        """Tells of these rows, in the order of the table; returns of how many. Called from one thread.

        Raises `AlertNotTakenError`; some may have been taken then, and are told again.
        """
        ...


class KafkaChannel:
    """Each row is a record, with the alert's id as key. A row that is told again is the same record."""

    name, is_for_people = "kafka", False

    def __init__(self, kafka: KafkaResource, topic: str) -> None:
        self._kafka, self._topic = kafka, topic
        self._producer: Producer | None = None

    def send(self, rows: Rows) -> int:
        """Sends as `Channel.send`; raises `MissingTopicError`, `BrokerUnavailableError` as well."""
        from confluent_kafka import KafkaException

        refused: list[str] = []

        def note(error: Any, _message: Any) -> None:
            if error is not None:
                refused.append(error.str())

        if self._producer is None:
            ensure_topic(self._kafka, self._topic, 1)
            self._producer = self._kafka.producer()
        # Dropped where it fails: an idempotent one cannot go on after some errors.
        producer, self._producer = self._producer, None
        try:
            for row in rows:
                while True:
                    try:
                        producer.produce(self._topic, key=row["alert_id"], value=encode(row), on_delivery=note)
                        break
                    except BufferError:
                        producer.poll(0.1)
            librdkafka.flush(producer, _FLUSH_SECONDS)
        except KafkaException as error:  # any of these calls says so of a producer that has ended for good
            refused.append(error.args[0].str())
        if untaken := len(producer) + len(refused):
            why = refused[0] if refused else "no answer"
            raise AlertNotTakenError(
                f"The topic {self._topic} has not taken {untaken:,} rows on alerts ({why}). They are sent again."
            )
        self._producer = producer
        return len(rows)


class WebhookChannel:
    """One message as JSON: `text` in words, `alerts` as values (the first of many), `more` how many others."""

    name, is_for_people = "webhook", True

    def __init__(self, url: str) -> None:
        self._url = url

    def send(self, rows: Rows) -> int:
        """Sends as `Channel.send` says."""
        if not (told := select_told(rows)):
            return 0
        message = {
            "text": "\n".join([write_title(told), *write_lines(told)]),
            "alerts": [as_value(row) for row in told[:MOST_IN_WORDS]],
            "more": max(0, len(told) - MOST_IN_WORDS),
        }
        try:
            webhook.post(self._url, message)
        except webhook.NotTakenError as error:
            raise AlertNotTakenError(
                f"The webhook of HEADRACE_ALERTS_URL took no message ({error}). It is told again."
            ) from None
        return len(told)


class MailChannel:
    """One mail: its subject counts, its text has a line an alert."""

    name, is_for_people = "mail", True

    def __init__(self, server: MailServer, sender: str, receivers: Sequence[str]) -> None:
        self._server, self._sender, self._receivers = server, sender, receivers

    def send(self, rows: Rows) -> int:
        """Sends as `Channel.send` says."""
        if not (told := select_told(rows)):
            return 0
        message = EmailMessage()
        message["Subject"] = f"[headrace] {write_title(told)}"
        message["From"], message["To"] = self._sender, ", ".join(self._receivers)
        # Answers of people who are away would come back for each.
        message["Auto-Submitted"] = "auto-generated"
        message.set_content("\n".join([*write_lines(told), ""]))
        try:
            self._send(message)
        except (smtplib.SMTPException, OSError) as error:
            raise AlertNotTakenError(
                f"The mail server {self._server.host}:{self._server.port} took no mail ({_describe(error)}). "
                "It is sent again."
            ) from None
        return len(told)

    def _send(self, message: EmailMessage) -> None:
        server, context = self._server, ssl.create_default_context()
        if server.is_tls:
            client: smtplib.SMTP = smtplib.SMTP_SSL(server.host, server.port, timeout=_MAIL_SECONDS, context=context)
        else:
            client = smtplib.SMTP(server.host, server.port, timeout=_MAIL_SECONDS)
        with client:
            client.ehlo()
            if not server.is_tls and client.has_extn("starttls"):
                client.starttls(context=context)
                client.ehlo()
            elif not server.is_tls and server.user and server.host not in _LOOPBACK:
                raise smtplib.SMTPException("it offers no TLS, and a password goes over no open line")
            if server.user:
                client.login(server.user, server.password)
            # Where some receivers are refused the others have it: sent again, they would have it again and again.
            if refused := client.send_message(message):
                _log.warning("The mail server %s:%d refuses %s.", server.host, server.port, ", ".join(sorted(refused)))


def build_channels(settings: Settings, kafka: KafkaResource | None) -> list[Channel]:
    """The channels that the settings name; `kafka` where there is a topic."""
    channels: list[Channel] = []
    if settings.alerts_topic and kafka is not None:
        channels.append(KafkaChannel(kafka, settings.alerts_topic))
    if url := settings.alerts_url.get_secret_value():
        channels.append(WebhookChannel(url))
    if mail := settings.alerts_smtp_url.get_secret_value():
        receivers = split_addresses(settings.alerts_mail_to)
        channels.append(MailChannel(parse_server(mail), settings.alerts_mail_from, receivers))
    return channels


def name_channels(settings: Settings) -> tuple[str, ...]:
    """Their names."""
    wanted = {
        KafkaChannel.name: bool(settings.alerts_topic),
        WebhookChannel.name: bool(settings.alerts_url.get_secret_value()),
        MailChannel.name: bool(settings.alerts_smtp_url.get_secret_value()),
    }
    return tuple(name for name, is_wanted in wanted.items() if is_wanted)


def _describe(error: Exception) -> str:
    """What the server said, without the log-in: an answer repeats it at times."""
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return f"the log-in is refused, code {error.smtp_code}"
    if isinstance(error, smtplib.SMTPResponseException):
        return f"code {error.smtp_code}"
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return f"it refuses {', '.join(sorted(error.recipients))}"
    return next(iter(str(error).splitlines()), type(error).__name__)
