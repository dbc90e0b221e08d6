"""What simulated sensors are, and what each would measure at any moment if nothing went wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.simulator.encoded_values import as_fractions, mix_ids
from jobs.simulator.telemetry_profile import TelemetryProfile

_DAY = 24 * 3600 * 1_000_000
_SENSORS_OF_ONE_PLACE = 8


@dataclass(frozen=True)
class Signal:
    """The values of one kind, in `unit`, with `decimals` digits behind the point, between `least` and `greatest`.

    Sensors differ by up to `spread` from `middle`; a day swings by `swing`, each reading by `noise` (sigma). The rest
    is by how much an anomaly of each pattern changes the value; `beyond` is one that cannot be. A signal without
    `noise` has no anomalies of its own.
    """

    kind: str
    unit: str
    middle: float
    spread: float
    swing: float
    noise: float
    decimals: int
    least: float = 0.0
    greatest: float = 1e5
    step: float = 0.0
    spike: float = 0.0
    beyond: float = 0.0
    deterioration: float = 0.0


SIGNALS = (
    Signal("air_temperature", "Cel", 12, 2, 4, 0.25, 1, least=-60, step=7, spike=14, beyond=71),
    Signal("relative_humidity", "%", 55, 5, 8, 1, 0, greatest=100, step=25, spike=-40, beyond=130),
    Signal("pm2_5", "ug/m3", 15, 3, 4, 1, 1, step=30, spike=60, beyond=1200),
    Signal("noise_level", "dB", 55, 4, 6, 1.5, 1, step=25, spike=40, beyond=190),
    Signal("traffic_flow", "/h", 600, 100, 250, 25, 0, step=700, spike=1500, beyond=9000),
    Signal("water_level", "m", 2, 0.5, 0.1, 0.01, 2, step=0.8, spike=1.5, beyond=24),
    Signal("water_flow", "L/s", 20, 3, 5, 0.4, 1, step=14, spike=30, beyond=900),
    Signal("respiration_rate", "/min", 16, 1, 1, 0.7, 0, step=6, spike=18, beyond=95, deterioration=11),
    Signal("oxygen_saturation", "%", 97, 0.3, 0.2, 0.5, 0, greatest=100, step=-5, spike=-14, beyond=119,
           deterioration=-8),
    Signal("oxygen_flow", "L/min", 0, 0, 0, 0, 0, deterioration=2),
    Signal("systolic_pressure", "mm[Hg]", 122, 6, 5, 3, 0, step=-32, spike=70, beyond=340, deterioration=-40),
    Signal("heart_rate", "/min", 74, 6, 5, 2, 0, step=35, spike=75, beyond=330, deterioration=45),
    Signal("body_temperature", "Cel", 36.8, 0.2, 0.2, 0.06, 1, step=1.2, spike=3.5, beyond=47, deterioration=2.4),
    Signal("consciousness", "{level}", 0, 0, 0, 0, 0, deterioration=2),
)  # fmt: skip
_NUMBERS = {signal.kind: number for number, signal in enumerate(SIGNALS)}
_STATIONS = (
    ("air_temperature", "relative_humidity"),
    ("pm2_5", "noise_level"),
    ("traffic_flow",),
    ("water_level", "water_flow"),
)
_VITALS = tuple(signal.kind for signal in SIGNALS if signal.deterioration)


class SensorSignals:
    """All channels (a sensor's values of one kind), by number, and their values. Values depend on nothing but these.

    `signal` has the number of each channel's signal, `patient` that of its patient (-1: none).
    """

    def __init__(self, profile: TelemetryProfile, salt: int) -> None:
        city = [
            (f"sensor-{n:05}", f"district-{n // _SENSORS_OF_ONE_PLACE:03}", kind, -1)
            for n in range(profile.sensors)
            for kind in _STATIONS[n % len(_STATIONS)]
        ]
        vitals = [
            (f"patient-{n:05}", f"ward-{n // _SENSORS_OF_ONE_PLACE:03}", kind, n)
            for n in range(profile.patients)
            for kind in _VITALS
        ]
        channels = [*city, *vitals]
        self.sensors = [sensor for sensor, _, _, _ in channels]
        self.places = [place for _, place, _, _ in channels]
        self.signal = np.array([_NUMBERS[kind] for _, _, kind, _ in channels], dtype=np.uint8)
        self.patient = np.array([patient for _, _, _, patient in channels], dtype=np.int64)
        self._salt = salt
        own = as_fractions(mix_ids(np.arange(len(channels), dtype=np.uint64), salt))
        self._middle = self.of_signals("middle") + self.of_signals("spread") * (2 * own - 1)
        self._columns = {name: self.of_signals(name) for name in ("swing", "noise", "least", "greatest")}

    def __len__(self) -> int:
        return len(self.sensors)

    def of_signals(self, name: str) -> NDArray[np.float64]:
        """An attribute of each channel's signal."""
        return np.array([getattr(signal, name) for signal in SIGNALS], dtype=np.float64)[self.signal]

    def measure(self, channel: NDArray[np.uint32], at: NDArray[np.int64]) -> NDArray[np.float64]:
        """What each of these channels measures at its moment (microseconds since 1970), before it is rounded."""
        own = {name: values[channel] for name, values in self._columns.items()}
        hours = np.cos((at % _DAY / _DAY - 15 / 24) * 2 * np.pi)
        values = self._middle[channel] + own["swing"] * hours + own["noise"] * self._draw_normal(channel, at)
        return np.clip(values, own["least"], own["greatest"])

    def draw(self, channel: NDArray[np.uint32], at: NDArray[np.int64], what: int) -> NDArray[np.uint64]:
        """Random bits that belong to each channel and moment; `what` tells one question from another."""
        mixed = mix_ids(channel.astype(np.uint64), self._salt + what)
        return mix_ids(mixed ^ at.astype(np.uint64), self._salt + what)

    def _draw_normal(self, channel: NDArray[np.uint32], at: NDArray[np.int64]) -> NDArray[np.float64]:
        one, other = (as_fractions(self.draw(channel, at, what)) for what in (1, 2))
        return np.asarray(np.sqrt(-2 * np.log(1 - one)) * np.cos(2 * np.pi * other))
