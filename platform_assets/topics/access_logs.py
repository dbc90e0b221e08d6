"""Topic `access_logs`: what web servers and sshd write, a line of text a record."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Annotated

from msgspec import Meta

from platform_assets.streaming.topic_spec import EventTime, Record, TextLines, Topic

WEB, SSHD = "web", "sshd"
FAILED, ACCEPTED, CLOSED, UNKNOWN_USER = "failed", "accepted", "closed", "unknown_user"


class LogLine(Record):
    """One line: a request to a web server, or a message of sshd. Fields of the other kind are null."""

    time: Annotated[str, Meta(description="When it was written, as the server says")]
    service: Annotated[str | None, Meta(description="Which server wrote it: web or sshd")] = None
    host: Annotated[str | None, Meta(description="Site of the request, or the host that sshd runs on")] = None
    address: Annotated[str | None, Meta(description="Whom the server talked to: an IP address, or a name of one")] = (
        None
    )
    network: Annotated[str | None, Meta(description="The same, but of IPv6 the /64 that it lies in")] = None
    user_name: Annotated[str | None, Meta(description="Who was logged in, or tried to: as the client said")] = None
    method: Annotated[str | None, Meta(description="Method of the request")] = None
    path: Annotated[str | None, Meta(description="What was asked for, up to its question mark")] = None
    query: Annotated[str | None, Meta(description="The same behind the question mark")] = None
    protocol: Annotated[str | None, Meta(description="Protocol of the request")] = None
    request: Annotated[str | None, Meta(description="A request that is no method and path, as it was logged")] = None
    status: Annotated[int, Meta(description="Status of the answer", ge=100, le=599)] | None = None
    bytes_sent: Annotated[int, Meta(description="Size of the answer; null where none was logged", ge=0)] | None = None
    referrer: Annotated[str | None, Meta(description="Where the client says that it comes from")] = None
    user_agent: Annotated[str | None, Meta(description="What the client says that it is")] = None
    rest: Annotated[str | None, Meta(description="What this server logs besides, such as X-Forwarded-For")] = None
    process_id: Annotated[int | None, Meta(description="Process of sshd")] = None
    message: Annotated[str | None, Meta(description="What sshd says")] = None
    outcome: Annotated[
        str | None,
        Meta(description="Of a log-in: failed, accepted, closed (by the client, before it was either), unknown_user"),
    ] = None
    auth_method: Annotated[str | None, Meta(description="How somebody tried to log in: password, publickey")] = None
    repeated: Annotated[int | None, Meta(description="How often sshd said this, where syslog has put it together")] = (
        None
    )


# Each part has its own characters, so that a line is read once or twice and not back and forth: its text is a
# stranger's. `sshd` behind the time decides which of the two kinds a line is.
_SYSLOG_TIME = (
    r"(?:[A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8}|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.,]{8,18}(?:Z|[+-][0-9]{2}:?[0-9]{2})?)"
)
_QUOTED = r'"(?P<{}>[^"\\]*(?:\\.[^"\\]*)*)"'
_TARGET = r'[^\s"?\\]+(?:\\.[^\s"?\\]*)*'
_PATTERN = (
    r"(?:<[0-9]{1,3}>(?:1 )?)?"
    # The time stands in front (sshd) or in brackets behind the user (web): it is found ahead of both.
    rf'(?=(?:(?:\S+ ){{3,4}}\[)?(?P<time>{_SYSLOG_TIME}|[^\]"]{{1,60}}(?=\] ")))'
    rf"(?:{_SYSLOG_TIME} (?=\S+ (?P<service>sshd)[ :\[-]))?"
    r"(?:(?P<host>[^\s:]+)(?::[0-9]{1,5})? )?"
    # `sshd[17]: ` of RFC 3164, or `sshd 17 - - ` of RFC 5424.
    r"(?(service)sshd(?:-session|-auth)?(?:[\[ ](?P<process_id>[0-9]{1,9})\]?)?(?:: | \S+ (?:-|(?:\[[^\]]*\])+) )"
    r"(?P<message>.*)"
    r"|(?P<address>\S+) \S+ (?:-|(?P<user_name>\S+)) \[[^\]]*\] "
    rf'(?:"(?P<method>[A-Z]{{1,20}}) (?P<path>{_TARGET})(?:\?(?P<query>[^\s"\\]*(?:\\.[^\s"\\]*)*))?'
    rf'(?: (?P<protocol>[A-Z]+/[0-9.]+))?"|{_QUOTED.format("request")})'
    r" (?P<status>\S+) (?:-|(?P<bytes_sent>\S+))"
    rf"(?: (?:\"-\"|{_QUOTED.format('referrer')}) (?:\"-\"|{_QUOTED.format('user_agent')}))?(?: (?P<rest>.*))?)"
)

# A user's name is what a stranger typed, with blanks and words of sshd's own in it: the address is the last one. Only
# with hostbased authentication a stranger's words come behind that too, so that such a line has no outcome here.
_PEER = r"(?P<user_name>.*) from (?P<address>\S+) port [0-9]{1,5}"
_LOGINS = tuple(
    re.compile(rf"(?:message repeated (?P<repeated>[0-9]{{1,4}}) times: \[ )?{said}\]?")
    for said in (
        rf"(?P<said>Failed|Accepted) (?P<method>(?!hostbased)[a-z/-]+) for (?:invalid user )?{_PEER}"
        r"(?: ssh[12])?(?:: [^\]]*)?",
        r"(?P<said>Connection (?:closed|reset) by|Disconnected from) (?:authenticating|invalid) user (?P<user_name>.*) "
        r"(?P<address>\S+) port [0-9]{1,5} \[preauth",
        r"(?P<said>Invalid) user (?P<user_name>.*) from (?P<address>\S+?)(?: port [0-9]{1,5})?",
    )
)
_OUTCOMES = {"Failed": FAILED, "Accepted": ACCEPTED, "Invalid": UNKNOWN_USER}
# The last part has a letter: what has none is an address that is spelled wrongly.
_NAME = re.compile(r"(?:[A-Za-z0-9_-]{1,63}\.)*(?=[0-9_-]*[A-Za-z])[A-Za-z0-9_-]{1,63}\.?")
_NAMES_OF_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTHS = {name: number for number, name in enumerate(_NAMES_OF_MONTHS, 1)}


def spell_time(text: str) -> str:
    """Spells the time of a web log, or of syslog, as ISO 8601; a text that is neither stays, and is a bad timestamp.

    The short time of syslog (RFC 3164) has no year: it gets the one that makes it a moment of the last twelve months.
    """
    try:
        if text[2:3] == "/":
            # Not strptime: its months are those of the process's language.
            moment = datetime(int(text[7:11]), _MONTHS[text[3:6]], int(text[:2]))  # noqa: DTZ001 the zone is behind it
            return f"{moment:%Y-%m-%d}T{text[12:20]}{text[21:]}"
        if text[:3] in _MONTHS:
            return f"{_find_day(text)}T{text[7:]}"
    except (ValueError, KeyError):
        pass
    return text


def _find_day(text: str) -> str:
    """The newest day of this month and day that is not after tomorrow. Raises `ValueError` where there is none."""
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    month, day = _MONTHS[text[:3]], int(text[4:6])
    # Eight years: so long may a 29th of February be away.
    for year in range(tomorrow.year, tomorrow.year - 9, -1):
        try:
            moment = datetime(year, month, day, tzinfo=UTC)
        except ValueError:
            continue
        if moment <= tomorrow:
            return f"{moment:%Y-%m-%d}"
    raise ValueError(f"{text!r} is no day of any year")


@lru_cache(maxsize=65_536)
def spell_address(text: str) -> str:
    """An IP address as RFC 5952 spells it, IPv4 within IPv6 as IPv4; a host's name in small letters.

    Raises `ValueError` for what is neither. Addresses in other fields, such as X-Forwarded-For, are never asked for:
    the client writes them.
    """
    found = _read_address(text)
    if found is not None:
        return str(found)
    if len(text) > 253 or not _NAME.fullmatch(text):
        raise ValueError(f"{text[:80]!r} is no address and no name of a host")
    return text.lower()


@lru_cache(maxsize=65_536)
def find_network(address: str) -> str:
    """Whom an address is taken for: itself, but of IPv6 its /64, which is what one customer is given."""
    found = _read_address(address)
    return str(IPv6Network((found.packed, 64), strict=False)) if isinstance(found, IPv6Address) else address


def _read_address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return found.ipv4_mapped or found if isinstance(found, IPv6Address) else found


def read_message(line: LogLine) -> None:
    """Fills in which service wrote the line, whose it is, and what a message of sshd says of a log-in."""
    if line.service is None:
        line.service = WEB
    for pattern in _LOGINS if line.message is not None else ():
        if (found := pattern.fullmatch(line.message or "")) is not None:
            parts = found.groupdict()
            line.outcome = _OUTCOMES.get(parts["said"], CLOSED)
            line.user_name, line.auth_method = parts["user_name"], parts.get("method")
            line.repeated = int(parts["repeated"]) if parts["repeated"] else None
            try:
                line.address = spell_address(parts["address"])
            except ValueError:
                line.address = None  # the message has it
            break
    line.network = None if line.address is None else find_network(line.address)


TOPIC = Topic(
    name="access_logs",
    description="Accepted lines of web servers and of sshd: typed, validated, as often as they were sent.",
    record=LogLine,
    event_time=EventTime("time"),
    event_type="service",
    kafka_topic="access-logs",
    values=TextLines(_PATTERN),
    spellings={"time": spell_time, "address": spell_address},
    complete=read_message,
)
ACCESS_LOGS, QUARANTINED_ACCESS_LOGS, DEDUPLICATED_ACCESS_LOGS = TOPIC.tables
