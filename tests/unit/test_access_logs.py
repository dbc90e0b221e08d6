"""The topic `access_logs`: lines of web servers and sshd, by the stream's own parser."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.streaming.event_rules import EventRules
from platform_assets.streaming.ingest.record_parser import parse_batch
from platform_assets.topics.access_logs import TOPIC, find_network, spell_address, spell_time
from tests.log_lines import as_batch

ARRIVAL = datetime(2026, 11, 30, 12, tzinfo=UTC)
MOST_BYTES = 1_048_576
LONG = 200_000
REQUEST = '10.0.0.1 - - [28/Nov/2026:08:00:00 +0100] "GET /a?b=1 HTTP/1.1" 200 512'
SSHD = "2026-11-28T08:00:01.25+01:00 lab sshd[17]: "
MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


def parse(*lines: bytes | None) -> list[dict[str, Any]]:
    micros = int(ARRIVAL.timestamp()) * 1_000_000
    rows: list[dict[str, Any]] = parse_batch(
        as_batch(lines, ARRIVAL), TOPIC, micros, MOST_BYTES, EventRules()
    ).to_pylist()
    return rows


def accept(line: str) -> dict[str, Any]:
    (row,) = parse(line.encode())
    assert row["_reason"] is None, row["_detail"]
    return row


def test_a_request_in_the_common_format() -> None:
    row = accept(REQUEST)
    assert (row["service"], row["host"], row["address"], row["user_name"]) == ("web", None, "10.0.0.1", None)
    assert (row["method"], row["path"], row["query"], row["protocol"]) == ("GET", "/a", "b=1", "HTTP/1.1")
    assert (row["status"], row["bytes_sent"], row["user_agent"], row["rest"]) == (200, 512, None, None)
    assert row["event_time"] == datetime(2026, 11, 28, 7, tzinfo=UTC)


def test_a_site_stands_in_front_and_what_a_server_logs_besides_behind() -> None:
    row = accept(f'shop.example:443 {REQUEST} "-" "Mozilla/5.0 (\\"X\\")" "203.0.113.9, 10.0.0.7" 0.25')
    assert (row["host"], row["address"]) == ("shop.example", "10.0.0.1")
    assert (row["referrer"], row["user_agent"], row["rest"]) == (
        None,
        'Mozilla/5.0 (\\"X\\")',
        '"203.0.113.9, 10.0.0.7" 0.25',
    )


@pytest.mark.parametrize("request_line", ["-", r"\x16\x03\x01", "GET /a b c", "get / HTTP/1.1", 'GET /a\\"b HTTP/1'])
def test_what_is_no_request_is_kept_as_it_was_logged(request_line: str) -> None:
    row = accept(REQUEST.replace("GET /a?b=1 HTTP/1.1", request_line))
    assert (row["request"] or f"{row['method']} {row['path']} {row['protocol']}") == request_line


@pytest.mark.parametrize(
    ("said", "outcome", "user", "address", "repeated"),
    [
        ("Failed password for root from 203.0.113.9 port 22 ssh2", "failed", "root", "203.0.113.9", None),
        ("Failed password for invalid user a b from ::1 port 22 ssh2", "failed", "a b", "::1", None),
        (
            "message repeated 5 times: [ Failed password for root from 203.0.113.9 port 22 ssh2]",
            "failed", "root", "203.0.113.9", 5,
        ),
        ("Accepted publickey for git from 2001:DB8::7 port 1 ssh2: RSA SHA256:a/b", "accepted", "git",
         "2001:db8::7", None),
        ("Invalid user admin from 203.0.113.9 port 22", "unknown_user", "admin", "203.0.113.9", None),
        ("Connection closed by authenticating user root 203.0.113.9 port 22 [preauth]", "closed", "root",
         "203.0.113.9", None),
        ("Disconnected from invalid user x y 203.0.113.9 port 22 [preauth]", "closed", "x y", "203.0.113.9", None),
        ("Server listening on :: port 22.", None, None, None, None),
        ("Accepted password for", None, None, None, None),
        # A client says its own user with this method, behind the address.
        ('Failed hostbased for a from ::1 port 2 ssh2: RSA SHA256:a, client user "x from ::2 port 1"', None, None,
         None, None),
    ],
)  # fmt: skip
def test_a_message_of_sshd_says_who_tried_to_log_in(
    said: str, outcome: str | None, user: str | None, address: str | None, repeated: int | None
) -> None:
    row = accept(SSHD + said)
    assert (row["service"], row["host"], row["process_id"], row["message"]) == ("sshd", "lab", 17, said)
    assert (row["outcome"], row["user_name"], row["address"], row["repeated"]) == (outcome, user, address, repeated)
    assert row["event_time"] == datetime(2026, 11, 28, 7, 0, 1, 250_000, tzinfo=UTC)


def test_a_user_whose_name_looks_like_a_message_gets_nobody_else_accused() -> None:
    named = "x from 198.51.100.1 port 22 ssh2: y"
    row = accept(f"{SSHD}Failed password for invalid user {named} from 203.0.113.9 port 22 ssh2")
    assert (row["user_name"], row["address"]) == (named, "203.0.113.9")


def test_a_web_client_that_calls_itself_an_address_gets_nobody_else_accused() -> None:
    (row,) = parse(REQUEST.replace("- - [", "- 198.51.100.1 b [").encode())
    assert row["_reason"] == "wrong_type" and "'-' is no address" in row["_detail"]


@pytest.mark.parametrize(
    "head",
    [
        "<86>Nov 28 08:00:01 lab sshd[17]: ", "Nov 28 08:00:01 lab sshd-session[17]: ",
        "<86>1 2026-11-28T08:00:01Z lab sshd 17 - - ", '<86>1 2026-11-28T08:00:01Z lab sshd-auth 17 ID [a b="c"] ',
    ],
)  # fmt: skip
def test_each_spelling_of_syslog_is_read(head: str) -> None:
    row = accept(f"{head}Failed password for root from 203.0.113.9 port 22 ssh2")
    assert (row["host"], row["process_id"], row["outcome"]) == ("lab", 17, "failed")
    assert row["event_time"].replace(year=2026) == datetime(2026, 11, 28, 8, 0, 1, tzinfo=UTC)


def test_a_time_without_a_year_is_one_of_the_last_twelve_months() -> None:
    for days in (0, 1, 45, 363):
        moment = datetime.now(UTC) - timedelta(days=days)
        text = f"{MONTHS[moment.month - 1]} {moment.day:2} 10:11:12"
        assert spell_time(text) == f"{moment:%Y-%m-%d}T10:11:12"
    leap_day = datetime.fromisoformat(spell_time("Feb 29 01:02:03"))
    assert (leap_day.month, leap_day.day) == (2, 29)


@pytest.mark.parametrize(
    ("line", "reason", "said"),
    [
        (None, "tombstone", "null"),
        (b"", "no_match", "does not match"),
        (b"\xff" + REQUEST.encode(), "no_match", "not UTF-8"),
        (b"Nov 28 08:00:01 lab cron[1]: (root) CMD (true)", "no_match", "does not match"),
        (f"{REQUEST}\n{REQUEST}".encode(), "no_match", "does not match"),
        (REQUEST.replace("200", "OK").encode(), "wrong_type", "status"),
        (REQUEST.replace("512", "1e3").encode(), "wrong_type", "bytes_sent"),
        (REQUEST.replace("512", str(2**63)).encode(), "wrong_type", "bytes_sent"),
        (REQUEST.replace("512", "-1").encode(), "negative_amount", "bytes_sent"),
        (REQUEST.replace("200", "999").encode(), "bad_value", "status"),
        (REQUEST.replace("10.0.0.1", "999.1.1.1").encode(), "wrong_type", "no address and no name"),
        (REQUEST.replace("10.0.0.1", "10.0.0.1,::1").encode(), "wrong_type", "no address and no name"),
        (REQUEST.replace("28/Nov", "31/Feb").encode(), "bad_timestamp", "31/Feb"),
        (REQUEST.replace("28/Nov", "28/Foo").encode(), "bad_timestamp", "28/Foo"),
        (REQUEST.replace("08:00", "25:00").encode(), "bad_timestamp", "25:00"),
        (REQUEST.replace("2026", "1969").encode(), "bad_timestamp", "before the year 2000"),
        (REQUEST.replace("2026", "9999").encode(), "bad_timestamp", "ahead of its arrival"),
        (b"Feb 31 08:00:01 lab sshd[1]: a", "bad_timestamp", "Feb 31"),
        (b"x" * (MOST_BYTES + 1), "oversized", str(MOST_BYTES)),
    ],
)
def test_a_line_that_is_none_is_quarantined_with_its_reason(line: bytes | None, reason: str, said: str) -> None:
    (row,) = parse(line)
    assert row["_reason"] == reason
    assert said in row["_detail"]
    assert row["_value"] == line


@pytest.mark.parametrize(
    "part",
    [
        '"',
        "\\",
        "a ",
        "\\a",
        "?a",
        " from",
        " from a port 1",
        "1.1.1.1 - - [",
        '"a" ',
        "a.",
        " a port 1 [preauth]",
        "[",
    ],
)
def test_a_long_line_of_a_stranger_is_read_in_the_time_of_its_length(part: str) -> None:
    # One that a pattern goes over again and again would not come to its end before the test's own limit.
    heads = ("", "1.1.1.1 - - [", REQUEST[:49], f'{REQUEST} "', f"{SSHD}Failed password for ", f"{SSHD}Invalid user ")
    rows = parse(*(f"{(head + part * LONG)[:LONG]}\0".encode() for head in heads))
    assert {row["_reason"] for row in rows} <= {"no_match", None}


def _is_plain(found: Any) -> bool:
    return found.ipv4_mapped is None


ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6).filter(_is_plain))
# What servers write as it is into a quoted part.
QUOTED = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters='"\\'), max_size=30)
WORDS = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=12)
SECONDS = st.integers(2 * 86_400, int((ARRIVAL - datetime(2000, 1, 1, tzinfo=UTC)).total_seconds()))
MOMENTS = SECONDS.map(lambda seconds: datetime(2000, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds))


@given(
    ADDRESSES, MOMENTS, st.integers(-720, 720), WORDS, WORDS, st.integers(100, 599),
    st.integers(0, 2**63 - 1) | st.none(), QUOTED, QUOTED, st.none() | WORDS, st.none() | WORDS,
)  # fmt: skip
def test_what_was_put_into_a_request_comes_out_of_it(
    address: IPv4Address | IPv6Address, at: datetime, minutes: int, path: str, query: str, status: int,
    size: int | None, referrer: str, agent: str, host: str | None, user: str | None,
) -> None:  # fmt: skip
    zone = f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}{abs(minutes) % 60:02}"
    time = f"{at:%d}/{MONTHS[at.month - 1]}/{at:%Y:%H:%M:%S} {zone}"
    row = accept(
        f"{f'{host}:80 ' if host else ''}{str(address).upper()} - {user or '-'} [{time}] "
        f'"POST /{path}?{query} HTTP/2.0" '
        f'{status} {"-" if size is None else size} "{referrer}" "{agent}"'
    )
    assert (row["host"], row["user_name"], row["method"], row["path"], row["query"]) == (
        host,
        user,
        "POST",
        f"/{path}",
        query,
    )
    assert ip_address(row["address"]) == address
    assert (row["status"], row["bytes_sent"]) == (status, size)
    assert [row["referrer"], row["user_agent"]] == [None if each == "-" else each for each in (referrer, agent)]
    assert row["event_time"] == at - timedelta(minutes=minutes)


def test_a_client_may_have_a_name_instead_of_an_address() -> None:
    assert [spell_address(name) for name in ("Host-1.DSL.example", "12-34.dsl.example.", "localhost")] == [
        "host-1.dsl.example", "12-34.dsl.example.", "localhost",
    ]  # fmt: skip


@given(ADDRESSES, QUOTED.map(str.strip), MOMENTS, st.integers(1, 65_535))
def test_what_was_put_into_a_log_in_comes_out_of_it(
    address: IPv4Address | IPv6Address, user: str, at: datetime, port: int
) -> None:
    row = accept(f"{at.isoformat()} h sshd[1]: Failed password for invalid user {user} from {address} port {port} ssh2")
    assert (row["user_name"], row["address"], row["outcome"]) == (user, str(address), "failed")


@given(st.ip_addresses(v=6))
def test_a_network_is_what_one_customer_has(address: IPv6Address) -> None:
    if address.ipv4_mapped is not None:
        assert find_network(spell_address(str(address))) == str(address.ipv4_mapped)
        return
    neighbour = IPv6Address(int(address) ^ 0xFFFF)
    assert find_network(str(address)) == find_network(str(neighbour)) == f"{IPv6Address(int(address) >> 64 << 64)}/64"
    assert find_network(str(IPv6Address(int(address) ^ 1 << 64))) != find_network(str(address))


# `test/data/vhost_combined.log` of the sdist of the PyPI package apachelogs 0.6.1 (MIT License): what a server on the
# internet has seen of somebody who looked for holes in it, and a line that is none.
RECORDED = Path(__file__).parents[1] / "recorded" / "apachelogs-vhost_combined.txt"


def test_recorded_lines_are_read() -> None:
    rows = parse(*RECORDED.read_bytes().splitlines())
    assert [row["_reason"] for row in rows] == [None] * 4 + ["no_match"] + [None] * 2
    found = [row for row in rows if row["_reason"] is None]
    assert {(row["host"], row["address"], row["status"]) for row in found} == {
        ("www.varonathe.org", "203.62.1.80", 301)
    }
    assert [(row["method"], row["path"], row["bytes_sent"]) for row in found] == [
        ("GET", "/", 577), ("GET", "/robots.txt", 596), ("POST", "/App6079ec68.php", 606), ("GET", "/webdav/", 554),
        ("GET", "/help.php", 592), ("GET", "/java.php", 592),
    ]  # fmt: skip
    assert {row["event_time"].date() for row in found} == {date(2019, 5, 6)}
