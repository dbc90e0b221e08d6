"""How simulated card payments behave: every rate is a setting with a documented default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jobs.simulator.delivery_habits import FAULTS, DeliveryHabits
from platform_assets.errors import UsageError


@dataclass(frozen=True)
class PaymentProfile(DeliveryHabits):
    """The customers, their cards, the merchants, and what is done with cards. Rates are probabilities from 0 to 1."""

    faults: ClassVar[tuple[str, ...]] = (*FAULTS, "bad_value")
    rates: ClassVar[tuple[str, ...]] = (
        *DeliveryHabits.rates,
        "second_card",
        "travellers",
        "other_devices",
        "without_country",
        "refunds",
        "reversals",
        "fraud",
        "card_testing",
        "takeover",
        "price_probing",
        "refund_abuse",
        "rings",
        "reported",
        "false_reports",
    )
    # The upper bounds keep the generator's tables in tens of megabytes.
    ranges: ClassVar[tuple[tuple[str, float, float], ...]] = (
        *DeliveryHabits.ranges,
        ("population", 0, 2**31 - 1),
        ("customers", 1, 2_000_000),
        ("customer_skew", 0, 5),
        ("merchants", 1, 50_000),
        ("merchant_skew", 0, 5),
        ("round_payments", 1, 20),
        ("round_minutes", 0.01, 600),
        ("reversal_seconds", 0.01, 600),
        ("fraud_seconds", 0.01, 600),
        ("ring_devices", 1, 100_000),
        ("ring_days", 0.01, 400),
        ("report_hours", 0.001, 2000),
    )

    population: int = 0
    """Which customers, cards and merchants: the same number has the same ones with any seed. 0: the seed's own."""
    customers: int = 20_000
    """Customers. At very high rates take more, or each of their cards pays all the time."""
    customer_skew: float = 1.0
    """Cards that pay often: sigma of the log-normal activity. 0: all alike."""
    second_card: float = 0.25
    """Customers with a second card."""
    merchants: int = 2_000
    merchant_skew: float = 1.0
    """Popular merchants: the exponent of Zipf's law. 0: all alike."""

    round_payments: float = 1.4
    """Mean payments of a round: one errand after the other, or one order after the other."""
    round_minutes: float = 12.0
    """Median time between two payments of a round."""
    travellers: float = 0.03
    """Cards that are abroad in a week; all others are at home, but for what they buy online."""
    other_devices: float = 0.0
    """Days of a card on which it pays online with a device of that day alone: a browser at work, a borrowed phone."""
    without_country: float = 0.01
    """Payments whose country is not sent."""
    refunds: float = 0.02
    """Transactions that give back a payment or a part of it. Which one is not said."""
    reversals: float = 0.005
    """Payments that are undone `reversal_seconds` later on average (at most 12 times)."""
    reversal_seconds: float = 40.0

    fraud: float = 0.002
    """Transactions that are fraud, and say so (`jobs.simulator.payment_fraud` has the patterns)."""
    fraud_seconds: float = 20.0
    """Mean time between two payments of a burst; other patterns take a fixed multiple of it."""
    card_testing: float = 0.4
    """How often a series is of this pattern, compared with the others."""
    takeover: float = 0.25
    price_probing: float = 0.2
    refund_abuse: float = 0.15
    rings: float = 0.6
    """Series on a device that is used for many stolen cards (`jobs.simulator.fraud_rings`); of abused refunds none."""
    ring_devices: int = 5
    """Devices that are so used at any time."""
    ring_days: float = 7.0
    """How long each of them is, until another one takes its place."""

    reported: float = 0.85
    """Fraud that is ever reported, a whole series or none of it (`jobs.simulator.fraud_reports`)."""
    report_hours: float = 30.0
    """Median time from a series' end to its report, log-normal; of a mistake, and again until it is cleared."""
    false_reports: float = 0.0001
    """Honest payments that are reported by mistake, and cleared later."""

    bad_value: float = 0.0005

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.card_testing + self.takeover + self.price_probing + self.refund_abuse > 0:
            raise UsageError("All patterns of fraud are 0. For none at all set fraud to 0.")
