"""How simulated access logs behave: every rate is a setting with a documented default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jobs.simulator.delivery_habits import DeliveryHabits
from platform_assets.errors import UsageError

PATTERNS = ("guessing", "spread_guessing", "slow_guessing", "scans", "bursts")
"""Attacks: the fields of the profile that say how often a series of lines is of each of them."""


@dataclass(frozen=True)
class AccessLogProfile(DeliveryHabits):
    """The hosts, who visits them, who logs in, and who attacks them. Rates are probabilities from 0 to 1."""

    faults: ClassVar[tuple[str, ...]] = (
        "tombstone", "oversized", "no_match", "wrong_type", "bad_timestamp", "negative_amount", "bad_value",
    )  # fmt: skip
    rates: ClassVar[tuple[str, ...]] = (
        *DeliveryHabits.rates, "weekend", "ipv6", "logins", "mistyped", "broken_links", "server_errors", "attacks",
        *PATTERNS,
    )  # fmt: skip
    # The upper bounds keep the generator's tables in megabytes.
    ranges: ClassVar[tuple[tuple[str, float, float], ...]] = (
        *DeliveryHabits.ranges,
        ("hosts", 1, 1_000),
        ("visitors", 1, 2_000_000),
        ("pages", 1, 10_000),
        ("page_skew", 0, 5),
        ("visit_pages", 1, 50),
        ("think_seconds", 0.01, 600),
        ("page_bytes", 1, 100_000_000),
    )

    # A line has no id: one that is sent twice counts twice. And it has no fields that a contract would not know.
    duplicates: float = 0.0
    unknown_fields: float = 0.0
    no_match: float = 0.0005
    bad_value: float = 0.0005

    hosts: int = 3
    """Sites, each with a host that sshd runs on."""
    visitors: int = 5_000
    ipv6: float = 0.3
    """Visitors, and attackers, with an IPv6 network: each request comes from another address of it."""
    pages: int = 300
    page_skew: float = 1.0
    """Popular pages: the exponent of Zipf's law. 0: all alike."""
    page_bytes: float = 20_000.0
    """Median size of a page."""
    visit_pages: float = 6.0
    """Mean requests of a visit."""
    think_seconds: float = 8.0
    """Median time between two of them."""
    weekend: float = 0.6
    """Visits on a Saturday or Sunday, compared with another day. The week's mean stays as it is."""

    broken_links: float = 0.01
    """Requests of honest visitors for what is not there."""
    server_errors: float = 0.002
    logins: float = 0.01
    """Beginnings that are log-ins of people who may; all others are visits."""
    mistyped: float = 0.2
    """Log-ins that fail one to three times before they succeed; a few of them fail up to five times."""

    attacks: float = 0.08
    """Lines that are of an attack (`jobs.simulator.access_attacks` has the patterns)."""
    guessing: float = 1.0
    """How often an attack is of this pattern, compared with the others."""
    spread_guessing: float = 0.4
    slow_guessing: float = 0.2
    scans: float = 1.0
    bursts: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not sum(getattr(self, pattern) for pattern in PATTERNS) > 0:
            raise UsageError("All patterns of attacks are 0. For none at all set attacks to 0.")
