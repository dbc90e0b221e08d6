"""What goes wrong with simulated sensors: when it begins, how long it lasts, and what it does to a value.

A day has three shifts. In a shift a channel has one anomaly or none, and so has a patient; which one and when follow
from the channel, the shift and a salt, so that any moment can be asked about, in a history or live.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jobs.simulator.encoded_values import as_fractions, mix_ids
from jobs.simulator.sensor_signals import SIGNALS, SensorSignals
from jobs.simulator.telemetry_profile import TelemetryProfile

_MINUTE = 60 * 1_000_000
_SHIFT = 8 * 60 * _MINUTE
# An anomaly begins between these two, so that the longest one ends within its shift, and two are an hour apart.
_FIRST_MINUTE, _LAST_MINUTE = 60, 240

NONE, OUT_OF_RANGE, SPIKE, STEP, STUCK, SILENCE, UNIT_CHANGE, DETERIORATION = range(8)
PATTERNS = ("", "out_of_range", "spike", "step", "stuck", "silence", "unit_change", "deterioration")
_MINUTES = np.array([0, 20, 3, 150, 180, 180, 120, 180])
# Kinds that have another unit, and a value in it by way of (value + first) * second.
OTHER_UNITS = {
    "air_temperature": ("[degF]", 160 / 9, 1.8),
    "body_temperature": ("[degF]", 160 / 9, 1.8),
    "water_level": ("cm", 0.0, 100.0),
    "water_flow": ("m3/h", 0.0, 3.6),
}


@dataclass(frozen=True)
class Planted:
    """One anomaly: from its first moment to the first after it, in microseconds since 1970."""

    sensor: str
    kind: str
    pattern: str
    start: int
    end: int


class Found(NamedTuple):
    """The pattern in which each of some readings lies, and when that has begun."""

    pattern: NDArray[np.uint8]
    start: NDArray[np.int64]


class PlantedAnomalies:
    """The anomalies of all channels, at any time."""

    def __init__(self, profile: TelemetryProfile, signals: SensorSignals, salt: int) -> None:
        self._signals, self._profile, self._salt = signals, profile, salt
        self._has_own = signals.of_signals("noise") > 0
        self._has_other_unit = np.array([signal.kind in OTHER_UNITS for signal in SIGNALS])[signals.signal]

    def find(self, channel: NDArray[np.uint32], at: NDArray[np.int64]) -> Found:
        """What goes wrong with each of these channels at its moment."""
        pattern, start = self._plan(channel, at // _SHIFT)
        active = (start <= at) & (at < start + _MINUTES[pattern] * _MINUTE)
        return Found(np.where(active, pattern, NONE).astype(np.uint8), np.where(active, start, 0))

    def list(self, start: int, end: int) -> list[Planted]:
        """All anomalies that begin in this period; a patient's deterioration once for each vital sign."""
        channels = np.arange(len(self._signals), dtype=np.uint32)
        planted = []
        for shift in range(start // _SHIFT, end // _SHIFT + 1):
            pattern, starts = self._plan(channels, np.full(len(channels), shift, np.int64))
            for channel in np.flatnonzero((pattern != NONE) & (start <= starts) & (starts < end)).tolist():
                planted.append(self._name(channel, int(pattern[channel]), int(starts[channel])))
        return sorted(planted, key=lambda each: (each.start, each.sensor, each.kind))

    def change(self, values: NDArray[np.float64], channel: NDArray[np.uint32], found: Found) -> NDArray[np.float64]:
        """The values as the channels send them, in their usual unit."""
        signals = self._signals
        stuck = found.pattern == STUCK
        frozen = signals.measure(channel, np.where(stuck, found.start, 0))
        values = np.where(stuck, frozen, values)
        for pattern, name in ((STEP, "step"), (SPIKE, "spike"), (DETERIORATION, "deterioration")):
            values = values + np.where(found.pattern == pattern, signals.of_signals(name)[channel], 0.0)
        beyond = signals.of_signals("beyond")[channel] + values % 1
        return np.asarray(np.where(found.pattern == OUT_OF_RANGE, beyond, values))

    def _plan(self, channel: NDArray[Any], shift: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """The pattern of each channel's shift, and when it begins. A patient who becomes worse has no other one."""
        hit = (as_fractions(self._draw(channel, shift, 0)) < self._profile.anomalies) & self._has_own[channel]
        choices = np.where(self._has_other_unit[channel], UNIT_CHANGE, SILENCE).astype(np.uint64)
        pattern = np.where(hit, 1 + self._draw(channel, shift, 1) % choices, NONE)
        patient = self._signals.patient[channel]
        drawn = as_fractions(self._draw(patient, shift, 3))
        is_worse = (drawn < self._profile.deteriorations) & (patient >= 0)
        begun = np.where(is_worse, self._draw(patient, shift, 4), self._draw(channel, shift, 2))
        minutes = _FIRST_MINUTE + as_fractions(begun) * (_LAST_MINUTE - _FIRST_MINUTE)
        start = shift * _SHIFT + (minutes * _MINUTE).astype(np.int64)
        return np.where(is_worse, DETERIORATION, pattern).astype(np.uint8), start

    def _draw(self, number: NDArray[Any], shift: NDArray[np.int64], what: int) -> NDArray[np.uint64]:
        mixed = shift.astype(np.uint64) << np.uint64(32) | number.astype(np.uint64) & np.uint64(0xFFFFFFFF)
        return mix_ids(mix_ids(mixed, self._salt + what), self._salt)

    def _name(self, channel: int, pattern: int, start: int) -> Planted:
        signals = self._signals
        kind = SIGNALS[signals.signal[channel]].kind
        end = start + int(_MINUTES[pattern]) * _MINUTE
        return Planted(signals.sensors[channel], kind, PATTERNS[pattern], start, end)
