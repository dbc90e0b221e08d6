"""How the simulated shop behaves: every rate is a setting with a documented default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jobs.simulator.delivery_habits import DeliveryHabits


@dataclass(frozen=True)
class ShopProfile(DeliveryHabits):
    """The shop's size and its shoppers' habits. Rates are probabilities from 0 to 1."""

    rates: ClassVar[tuple[str, ...]] = (
        *DeliveryHabits.rates,
        "bounce_rate",
        "cart_rate",
        "remove_rate",
        "purchase_rate",
        "taste",
        "second_currency",
        "without_revenue",
    )
    # The upper bounds keep the generator's tables in tens of megabytes.
    ranges: ClassVar[tuple[tuple[str, float, float], ...]] = (
        *DeliveryHabits.ranges,
        ("users", 1, 5_000_000),
        ("user_skew", 0, 5),
        ("products", 1, 10_000),
        ("product_skew", 0, 5),
        ("views_per_session", 1, 50),
        ("think_seconds", 0.01, 600),
        ("think_spread", 0, 2),
    )

    users: int = 20_000
    """Customers of the shop. At very high rates take more, or each of them has many sessions at once."""
    user_skew: float = 1.0
    """Heavy users: sigma of the log-normal activity. 0: all alike; 1: the busiest is about 30 times the mean."""
    products: int = 500
    product_skew: float = 1.0
    """Popular products: the exponent of Zipf's law. 0: all alike."""

    taste: float = 0.7
    """Views that go to what the shopper likes, the others to what is popular. 0: all shoppers are alike."""

    bounce_rate: float = 0.35
    """Sessions with one page view and nothing else."""
    views_per_session: float = 4.5
    """Mean page views of a session that does not bounce."""
    cart_rate: float = 0.12
    """Page views that put the product into the cart."""
    remove_rate: float = 0.15
    """Products in the cart that are taken out again."""
    purchase_rate: float = 0.40
    """Sessions with something in the cart that buy it: one purchase event a product."""
    think_seconds: float = 12.0
    """Median time between two actions of a shopper."""
    think_spread: float = 1.0
    """Sigma of the log-normal think-time."""

    second_currency: float = 0.0
    """Products that are sold in yen, all others in euro. 0: no event names its currency."""
    without_revenue: float = 0.0
    """Purchases that are sent without revenue."""
