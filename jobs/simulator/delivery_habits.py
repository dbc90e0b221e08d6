"""How records of a simulated topic travel, and how many of them are malformed: the same settings for each topic."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

from platform_assets.errors import UsageError

# The reasons of a table of quarantined records, in the order in which the stream decides between them.
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
class DeliveryHabits:
    """Base of the profiles of simulated topics. Rates are probabilities from 0 to 1.

    The rates of faults (`tombstone` to `negative_amount`), of `late`, `out_of_order`, `duplicates` and
    `unknown_fields` are fractions of the valid events: malformed records and duplicates come on top of these, so that
    a person's own story stays whole. `oversized` is off by default: each such record is more than 1 MiB.

    Raises `UsageError`, naming the field, for a value that cannot be used.
    """

    faults: ClassVar[tuple[str, ...]] = FAULTS
    rates: ClassVar[tuple[str, ...]] = ("daily_swing", "out_of_order", "late", "duplicates", "unknown_fields")
    """Fields that are probabilities, besides the faults."""
    ranges: ClassVar[tuple[tuple[str, float, float], ...]] = (
        ("out_of_order_seconds", 0, 60),
        ("late_minutes", 0, 24 * 60),
        ("duplicate_seconds", 0, 3600),
    )
    """Other numbers, with the least and the most. The upper bounds keep what is held back in tens of megabytes."""

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

    tombstone: float = 0.0005
    oversized: float = 0.0
    not_json: float = 0.0005
    missing_field: float = 0.0005
    wrong_type: float = 0.0005
    unknown_event_type: float = 0.0005
    bad_timestamp: float = 0.0005
    negative_amount: float = 0.0005

    def __post_init__(self) -> None:
        for field in (*self.rates, *self.faults):
            value = getattr(self, field)
            if not 0 <= value <= 1:
                raise UsageError(f"{field} is {value}. Give a rate from 0 to 1.")
        for field, least, most in self.ranges:
            value = getattr(self, field)
            if not (math.isfinite(value) and least <= value <= most):
                raise UsageError(f"{field} is {value}. Give a number from {least} to {most}.")
        if sum(self.fault_rates.values()) > 1:
            raise UsageError("The rates of malformed records are more than 1 together. Lower some of them.")

    @property
    def fault_rates(self) -> dict[str, float]:
        """The rate of each kind of malformed record, in the order of `faults`."""
        return {fault: getattr(self, fault) for fault in self.faults}

    def with_malformed(self, rate: float) -> Self:
        """The same profile with malformed records at `rate` in all, in equal shares of every reason but oversized.

        Raises `UsageError` for a rate outside 0 to 1.
        """
        if not 0 <= rate <= 1:
            raise UsageError(f"malformed is {rate}. Give a rate from 0 to 1.")
        faults = [fault for fault in self.faults if fault != "oversized"]
        return self.with_rates(dict.fromkeys(faults, rate / len(faults)))

    def with_rates(self, rates: Mapping[str, float]) -> Self:
        """The same profile with these fields changed. Raises `UsageError` for an unknown field or a bad value."""
        unknown = set(rates) - {field.name for field in dataclasses.fields(self)}
        if unknown:
            names = ", ".join(sorted(unknown))
            raise UsageError(f"The simulation has no setting {names}. docs/simulator.md lists them.")
        return dataclasses.replace(self, **rates)

    @property
    def records_per_event(self) -> float:
        """Records sent for one valid event, on average: itself, its share of duplicates and of malformed records."""
        return 1 + self.duplicates + sum(self.fault_rates.values())
