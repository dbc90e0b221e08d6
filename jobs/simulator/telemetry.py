"""Simulated sensors of a city and of patients: each measures by the clock, and now and then something goes wrong."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from jobs.simulator.encoded_values import as_fractions, spell_times, spell_unknown_fields
from jobs.simulator.faults import BreakableRecord, break_values
from jobs.simulator.planted_anomalies import OTHER_UNITS, SILENCE, UNIT_CHANGE, Planted, PlantedAnomalies
from jobs.simulator.sensor_signals import SIGNALS, SensorSignals
from jobs.simulator.simulated_topic import SimulatedTopic
from jobs.simulator.telemetry_profile import TelemetryProfile

_SECOND = 1_000_000
# Blocks of a history are not longer than this, for a live run waits for the end of one.
_LONGEST_BLOCK_SECONDS = 600.0
_UNCERTAIN = 0.01
ACTION = np.dtype([("at", "i8"), ("channel", "u4")])

SENSOR_RECORD = BreakableRecord(
    required=("sensor", "kind", "timestamp", "value", "unit"),
    text="sensor",
    long_text="place",
    event_type="kind",
    unknown_types=("radiation", "HEART_RATE", "heart_rate ", "temperature"),
    wrong_types=(
        {"value": "NaN"},
        {"value": "21,5"},
        {"value": True},
        {"value": [21.5]},
        {"sensor": 4711},
        {"place": {"street": "High Street"}},
        {"quality": 1},
    ),
    negative_amounts=(),
    bad_values=({"value": 1e12}, {"quality": "fine"}, {"sensor": ""}),
    unknown_units=({"unit": "furlong"}, {"unit": ""}, {"unit": "Pa"}),
)

_READING = b'{"sensor":"%b","kind":"%b","timestamp":"%bZ","value":%b,"unit":"%b","place":"%b","quality":"%b"%b}'
_QUALITIES = np.array([b"good", b"uncertain", b"bad"], dtype=object)


class _Readings:
    """All channels in turn, evenly spaced; channels that are silent are left out."""

    def __init__(self, channels: int, planted: PlantedAnomalies) -> None:
        self._channels, self._planted = channels, planted

    def blocks(
        self, begin: int, events_per_second: float, swing: float, least: int
    ) -> Iterator[tuple[int, NDArray[np.void]]]:
        """Implements `Actions.blocks`. `swing` is not used: sensors measure by the clock."""
        spacing = _SECOND / events_per_second
        count = math.ceil(
            min(max(2.0 * events_per_second, least), max(1.0, _LONGEST_BLOCK_SECONDS * events_per_second))
        )
        first = 0
        while True:
            numbers = np.arange(first, first + count)
            rows = np.zeros(count, ACTION)
            rows["at"] = begin + (numbers * spacing).astype(np.int64)
            rows["channel"] = numbers % self._channels
            first += count
            found = self._planted.find(rows["channel"], rows["at"])
            yield begin + math.ceil(first * spacing), rows[found.pattern != SILENCE]


class TelemetryEncoder:
    """Writes deliveries as records. Stateless but for its tables: the same row always gives the same bytes."""

    def __init__(self, profile: TelemetryProfile, signals: SensorSignals, planted: PlantedAnomalies) -> None:
        self._profile, self._signals, self._planted = profile, signals, planted
        others = [OTHER_UNITS.get(signal.kind, (signal.unit, 0.0, 1.0)) for signal in SIGNALS]
        self._units = np.array(
            [[signal.unit.encode() for signal in SIGNALS], [unit.encode() for unit, _, _ in others]], dtype=object
        )
        self._added, self._factor = (np.array([other[n] for other in others])[signals.signal] for n in (1, 2))
        self._decimals = signals.of_signals("decimals").astype(int)
        self._sensors, self._places, self._kinds = (
            np.array([name.encode() for name in names], dtype=object)
            for names in (signals.sensors, signals.places, [SIGNALS[n].kind for n in signals.signal])
        )

    def encode(self, rows: NDArray[np.void]) -> Iterator[tuple[int, bytes, bytes | None, int]]:
        """Implements `RecordEncoder.encode`."""
        if not len(rows):
            return iter(())
        channel, at = rows["channel"], np.ascontiguousarray(rows["timestamp"])
        found = self._planted.find(channel, at)
        numbers = self._planted.change(self._signals.measure(channel, at), channel, found)
        changed = found.pattern == UNIT_CHANGE
        decimals = self._decimals[channel]
        # Rounded as the sensor does it, and in another unit once more with a digit more.
        numbers = np.array([round(n, d) for n, d in zip(numbers.tolist(), decimals.tolist(), strict=True)])
        numbers = np.where(changed, (numbers + self._added[channel]) * self._factor[channel], numbers)
        digits = np.where(changed, decimals + 2, decimals).tolist()
        spelled = [b"%.*f" % (d, n + 0.0) for d, n in zip(digits, numbers.tolist(), strict=True)]
        drawn = as_fractions(self._signals.draw(channel, at, 3))
        quality = np.where(drawn < self._profile.bad_readings, 2, np.where(drawn > 1 - _UNCERTAIN, 1, 0))
        keys: list[bytes] = self._sensors[channel].tolist()
        values: list[bytes | None] = [
            _READING % fields
            for fields in zip(
                keys,
                self._kinds[channel].tolist(),
                spell_times(at, np.ones(len(rows), dtype=bool)),
                spelled,
                self._units[changed.astype(int), self._signals.signal[channel]].tolist(),
                self._places[channel].tolist(),
                _QUALITIES[quality].tolist(),
                spell_unknown_fields(rows),
                strict=True,
            )
        ]
        break_values(SENSOR_RECORD, TelemetryProfile.faults, values, rows)
        return zip(rows["sent_at"].tolist(), keys, values, rows["label"].tolist(), strict=True)


class Telemetry(SimulatedTopic):
    """One run of the simulated sensors."""

    action: ClassVar[np.dtype[np.void]] = ACTION

    def __init__(self, profile: TelemetryProfile, seed: int) -> None:
        """Raises `UsageError` for a negative seed."""
        super().__init__(profile, seed)
        rng = np.random.default_rng([profile.population or seed, 0])
        salts = rng.integers(0, 2**62, 2).tolist()
        self._telemetry = profile
        self._signals = SensorSignals(profile, salts[0])
        self._planted = PlantedAnomalies(profile, self._signals, salts[1])

    def list_planted(self, start: int, end: int) -> list[Planted]:
        """The anomalies that begin in this period (microseconds since 1970), whatever is sent of them."""
        return self._planted.list(start, end)

    def _open_actions(self) -> _Readings:
        return _Readings(len(self._signals), self._planted)

    def _open_encoder(self, run: int) -> TelemetryEncoder:
        return TelemetryEncoder(self._telemetry, self._signals, self._planted)
