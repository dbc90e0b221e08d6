"""Encodes deliveries as lines of a web server (with its site, combined format) and of sshd."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.simulator.access_attacks import ACCEPTED_KEY, ACCEPTED_PASSWORD, ATTACKED_USERS, MISSING_PATHS, REQUEST
from jobs.simulator.access_log_profile import AccessLogProfile
from jobs.simulator.deliveries import FAULT_SHIFT

_NEW_YEAR_1970 = datetime(1970, 1, 1, tzinfo=UTC)
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_USERS = ("root", "admin", "test", "oracle", "ubuntu", "pi", "git", "postgres", "user", "guest", "ftp", "deploy")
_AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Safari/604.1",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0 Safari/537.36",
)
_MISSING = ("/wp-login.php", "/.env", "/.git/config", "/phpmyadmin/", "/admin.php", "/backup.zip", "/cgi-bin/test")
# The stream's default bound is 1 MiB; one character more would do, a little more survives a slightly raised bound.
_OVERSIZED_BYTES = 1_100_000
# Further ahead than any history is long.
_YEARS_AHEAD = 50
assert len(_USERS) == ATTACKED_USERS


def name_network(number: int, *, is_attacker: bool, has_ipv6: bool) -> str:
    """The network of a visitor or an attacker, as the topic spells it: an IPv4 address, or an IPv6 /64.

    Attackers have addresses of the ranges for benchmarks and for documentation: none of them is anybody's.
    """
    if has_ipv6:
        return f"2001:db8:{0xBAD if is_attacker else number >> 16:x}:{number & 0xFFFF:x}::/64"
    if is_attacker:
        return f"198.18.{number >> 8 & 255}.{number & 255}"
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


class LogLineEncoder:
    """Writes deliveries as lines. Stateless: the same row always gives the same bytes."""

    def __init__(self, profile: AccessLogProfile) -> None:
        self._profile = profile

    def find_network(self, number: int, *, is_attacker: bool) -> str:
        """The network that has this number."""
        # By the number's own digits: every run of a profile has the same ones.
        has_ipv6 = number * 2654435761 % 2**32 / 2**32 < self._profile.ipv6
        return name_network(number, is_attacker=is_attacker, has_ipv6=has_ipv6)

    def encode(self, rows: NDArray[np.void]) -> Iterator[tuple[int, bytes, bytes | None, int]]:
        """Implements `RecordEncoder.encode`."""
        names = rows.dtype.names or ()
        for values in zip(*(rows[name].tolist() for name in names), strict=True):
            row = dict(zip(names, values, strict=True))
            line: str | bytes | None = self._write(row)
            if fault := row["label"] >> FAULT_SHIFT:
                line = self._break(self._profile.faults[fault - 1], row)
            value = line.encode() if isinstance(line, str) else line
            yield row["sent_at"], b"web%d.example" % row["host"], value, row["label"]

    def _write(self, row: dict[str, Any]) -> str:
        return self._write_request(row) if row["kind"] == REQUEST else self._write_login(row)

    def _write_request(self, row: dict[str, Any], **changed: str) -> str:
        at = _NEW_YEAR_1970 + timedelta(microseconds=row["timestamp"])
        random, path = row["id_low"], row["path"]
        page = f"/products/{path}" if path % 3 else f"/search?q={path}&page={random % 5}"
        if path >= MISSING_PATHS:
            page = f"/{path - MISSING_PATHS}{_MISSING[path % len(_MISSING)]}"
        parts = {
            "address": self._draw_address(row),
            "time": f"{at:%d}/{_MONTHS[at.month - 1]}/{at:%Y:%H:%M:%S} +0000",
            "path": page,
            "status": str(row["status"] or 200),
            "bytes": str(row["bytes"]) if row["bytes"] else "-",
        } | changed
        referrer = f"https://web{row['host']}.example/" if random % 4 else "-"
        return (
            f'web{row["host"]}.example:443 {parts["address"]} - - [{parts["time"]}] "GET {parts["path"]} HTTP/1.1" '
            f'{parts["status"]} {parts["bytes"]} "{referrer}" "{_AGENTS[random % len(_AGENTS)]}"'
        )

    def _write_login(self, row: dict[str, Any]) -> str:
        at = _NEW_YEAR_1970 + timedelta(microseconds=row["timestamp"])
        user = _USERS[row["user"]] if row["user"] < len(_USERS) else f"person{row['user']}"
        unknown = "invalid user " if 1 <= row["user"] < len(_USERS) else ""
        said = {
            ACCEPTED_KEY: f"Accepted publickey for {user}",
            ACCEPTED_PASSWORD: f"Accepted password for {user}",
        }.get(row["kind"], f"Failed password for {unknown}{user}")
        key = ": ED25519 SHA256:Jm2d0Rhi9dTFbfJ0Bl7eJcXY0Ls6RrmGZ1Qk5oYUaVo" if row["kind"] == ACCEPTED_KEY else ""
        random = row["id_low"]
        return (
            f"{at:%Y-%m-%dT%H:%M:%S.%f}+00:00 web{row['host']}.example sshd-session[{random % 30_000 + 1}]: {said} "
            f"from {self._draw_address(row)} port {random % 60_000 + 1024} ssh2{key}"
        )

    def _draw_address(self, row: dict[str, Any]) -> str:
        network = self.find_network(row["network"], is_attacker=bool(row["is_attack"]))
        return network.replace("::/64", f"::{row['id_high'] % 0xFFFF + 1:x}")

    def _break(self, fault: str, row: dict[str, Any]) -> str | bytes | None:
        """A line that the stream must quarantine for the reason `fault`; None is a tombstone."""
        valid, variant = self._write_request(row), row["id_high"] >> 8
        year = (_NEW_YEAR_1970 + timedelta(microseconds=row["timestamp"])).year
        changes: dict[str, tuple[dict[str, str], ...]] = {
            "oversized": ({"path": "/" + "x" * _OVERSIZED_BYTES},),
            "wrong_type": ({"status": "OK"}, {"bytes": "1.5"}, {"address": "999.1.2.3"}, {"address": "10.0.0.1,::1"}),
            "bad_timestamp": (
                {"time": "31/Feb/2026:10:00:00 +0000"},
                {"time": "31/Dec/1999:23:59:59 +0000"},
                {"time": f"15/Jun/{year + _YEARS_AHEAD}:12:00:00 +0000"},
                {"time": "yesterday"},
            ),
            "negative_amount": ({"bytes": "-1"}, {"bytes": "-20000"}),
            "bad_value": ({"status": "99"}, {"status": "600"}, {"status": "2000"}),
        }
        if fault in changes:
            return self._write_request(row, **changes[fault][variant % len(changes[fault])])
        if fault == "tombstone":
            return None
        return (
            valid.partition('"')[0],
            "",
            valid.encode().replace(b"GET /", b"GET /\xff\xfe", 1),
            valid.replace("sshd", "cron").replace(" - - ", " "),
            '{"message": "GET /favicon.ico HTTP/1.1"}',
        )[variant % 5]
