"""How simulated card payments behave: every rate is a setting with a documented default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jobs.simulator.delivery_habits import FAULTS, DeliveryHabits


@dataclass(frozen=True)
class PaymentProfile(DeliveryHabits):
    """The customers, their cards, the merchants, and what is done with cards. Rates are probabilities from 0 to 1."""

    faults: ClassVar[tuple[str, ...]] = (*FAULTS, "bad_value")
    rates: ClassVar[tuple[str, ...]] = (
        *DeliveryHabits.rates,
        "second_card",
        "travellers",
        "without_country",
        "refunds",
        "reversals",
        "fraud",
    )
    # The upper bounds keep the generator's tables in tens of megabytes.
    ranges: ClassVar[tuple[tuple[str, float, float], ...]] = (
        *DeliveryHabits.ranges,
        ("customers", 1, 2_000_000),
        ("customer_skew", 0, 5),
        ("merchants", 1, 50_000),
        ("merchant_skew", 0, 5),
        ("round_payments", 1, 20),
        ("round_minutes", 0.01, 600),
        ("reversal_seconds", 0.01, 600),
        ("fraud_seconds", 0.01, 600),
    )

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
    without_country: float = 0.01
    """Payments whose country is not sent."""
    refunds: float = 0.02
    """Transactions that give back a payment or a part of it. Which one is not said."""
    reversals: float = 0.005
    """Payments that are undone `reversal_seconds` later on average (at most 12 times)."""
    reversal_seconds: float = 40.0

    fraud: float = 0.002
    """Payments of bursts that look like fraud, and say so: 6 to 16 of one card, in many countries and shops."""
    fraud_seconds: float = 20.0
    """Mean time between two payments of a burst."""

    bad_value: float = 0.0005
