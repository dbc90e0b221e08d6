"""How the simulated shop behaves: every rate is a setting with a documented default."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass

from platform_assets.errors import UsageError

# The reasons of `silver.quarantined_events`, in the order in which the stream decides between them.
FAULTS = (
    "tombstone",
    "oversized",
    "not_json",
    "missing_field",
    "wrong_type",
    "unknown_event_type",
    "bad_timestamp",
    "negative_amount",
)


@dataclass(frozen=True)
class ShopProfile:
    """The shop's size and its shoppers' habits. Rates are probabilities from 0 to 1.

    The rates of faults (`tombstone` to `negative_amount`), of `late`, `out_of_order`, `duplicates` and
    `unknown_fields` are fractions of the valid events: malformed records and duplicates come on top of these, so that
    a shopper's own story stays whole. `oversized` is off by default: each such record is more than 1 MiB.

    Raises `UsageError`, naming the field, for a value that cannot be used.
    """

    users: int = 20_000
    """Customers of the shop. At very high rates take more, or each of them has many sessions at once."""
    user_skew: float = 1.0
    """Heavy users: sigma of the log-normal activity. 0: all alike; 1: the busiest is about 30 times the mean."""
    products: int = 500
    product_skew: float = 1.0
    """Popular products: the exponent of Zipf's law. 0: all alike."""

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
    daily_swing: float = 0.6
    """Traffic's swing around its mean over the day in a history, highest at 20:00 UTC. 0: flat."""

    out_of_order: float = 0.05
    """Events that overtake one another on the way: sent up to `out_of_order_seconds` late."""
    out_of_order_seconds: float = 5.0
    late: float = 0.01
    """Events of devices that were offline: sent late by `late_minutes` on average (exponential, at most 12 times)."""
    late_minutes: float = 10.0
    duplicates: float = 0.01
    """Records sent a second time, byte for byte, `duplicate_seconds` later on average (at most 12 times)."""
    duplicate_seconds: float = 5.0
    unknown_fields: float = 0.02
    """Events with fields that the contract does not know."""
    second_currency: float = 0.0
    """Products that are sold in yen, all others in euro. 0: no event names its currency."""
    without_revenue: float = 0.0
    """Purchases that are sent without revenue."""

    tombstone: float = 0.0005
    oversized: float = 0.0
    not_json: float = 0.0005
    missing_field: float = 0.0005
    wrong_type: float = 0.0005
    unknown_event_type: float = 0.0005
    bad_timestamp: float = 0.0005
    negative_amount: float = 0.0005

    def __post_init__(self) -> None:
        for field in _RATES:
            value = getattr(self, field)
            if not 0 <= value <= 1:
                raise UsageError(f"{field} is {value}. Give a rate from 0 to 1.")
        for field, least, most in _RANGES:
            value = getattr(self, field)
            if not (math.isfinite(value) and least <= value <= most):
                raise UsageError(f"{field} is {value}. Give a number from {least} to {most}.")
        if sum(self.fault_rates.values()) > 1:
            raise UsageError("The rates of malformed records are more than 1 together. Lower some of them.")

    @property
    def fault_rates(self) -> dict[str, float]:
        """The rate of each kind of malformed record, in the order of `FAULTS`."""
        return {fault: getattr(self, fault) for fault in FAULTS}

    def with_malformed(self, rate: float) -> ShopProfile:
        """The same shop with malformed records at `rate` in all, in equal shares of every reason but oversized.

        Raises `UsageError` for a rate outside 0 to 1.
        """
        if not 0 <= rate <= 1:
            raise UsageError(f"malformed is {rate}. Give a rate from 0 to 1.")
        faults = [fault for fault in FAULTS if fault != "oversized"]
        return self.with_rates(dict.fromkeys(faults, rate / len(faults)))

    def with_rates(self, rates: Mapping[str, float]) -> ShopProfile:
        """The same shop with these fields changed. Raises `UsageError` for an unknown field or a bad value."""
        unknown = set(rates) - {field.name for field in dataclasses.fields(self)}
        if unknown:
            raise UsageError(f"The shop has no setting {', '.join(sorted(unknown))}. docs/simulator.md lists them.")
        return dataclasses.replace(self, **rates)  # type: ignore[arg-type]

    @property
    def records_per_event(self) -> float:
        """Records sent for one valid event, on average: itself, its share of duplicates and of malformed records."""
        return 1 + self.duplicates + sum(self.fault_rates.values())


_RATES = (
    "bounce_rate",
    "cart_rate",
    "remove_rate",
    "purchase_rate",
    "daily_swing",
    "out_of_order",
    "late",
    "duplicates",
    "unknown_fields",
    "second_currency",
    "without_revenue",
    *FAULTS,
)
# The upper bounds keep the generator's tables and the events it holds back in tens of megabytes.
_RANGES: tuple[tuple[str, float, float], ...] = (
    ("users", 1, 5_000_000),
    ("user_skew", 0, 5),
    ("products", 1, 10_000),
    ("product_skew", 0, 5),
    ("views_per_session", 1, 50),
    ("think_seconds", 0.01, 600),
    ("think_spread", 0, 2),
    ("out_of_order_seconds", 0, 60),
    ("late_minutes", 0, 24 * 60),
    ("duplicate_seconds", 0, 3600),
)
