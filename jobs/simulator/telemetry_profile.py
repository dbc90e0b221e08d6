"""How simulated sensors behave: every rate is a setting with a documented default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jobs.simulator.delivery_habits import FAULTS, DeliveryHabits
from platform_assets.errors import UsageError


@dataclass(frozen=True)
class TelemetryProfile(DeliveryHabits):
    """The sensors of a city and of patients, and what goes wrong with them. Rates are probabilities from 0 to 1.

    Sensors measure by the clock: their readings do not follow the hours of the day (`daily_swing` is not used), their
    values do.
    """

    faults: ClassVar[tuple[str, ...]] = (
        *(fault for fault in FAULTS if fault != "negative_amount"),
        "bad_value",
        "unknown_unit",
    )
    rates: ClassVar[tuple[str, ...]] = (*DeliveryHabits.rates, "anomalies", "deteriorations", "bad_readings")
    # The upper bounds keep the generator's tables in tens of megabytes.
    ranges: ClassVar[tuple[tuple[str, float, float], ...]] = (
        *DeliveryHabits.ranges,
        ("population", 0, 2**31 - 1),
        ("sensors", 0, 100_000),
        ("patients", 0, 10_000),
    )

    population: int = 0
    """Which sensors, and what goes wrong with them when: the same number has the same with any seed. 0: the seed's."""
    sensors: int = 80
    """Sensors of the city, each with one kind of value or two (`jobs.simulator.sensor_signals`)."""
    patients: int = 10
    """Patients, each with the seven vital signs that the early-warning score asks for."""
    anomalies: float = 0.05
    """Eight-hour shifts of a sensor's kind in which something goes wrong (`jobs.simulator.planted_anomalies`)."""
    deteriorations: float = 0.05
    """Eight-hour shifts of a patient in which all vital signs become worse for three hours."""
    bad_readings: float = 0.005
    """Readings of which the sensor itself says that they are bad."""

    bad_value: float = 0.0005
    unknown_unit: float = 0.0005

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sensors + self.patients < 1:
            raise UsageError("sensors and patients are 0. Give at least one of either.")
