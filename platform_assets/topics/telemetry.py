"""Topic `telemetry`: what sensors of a city and of patients measure, a JSON object a record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import Meta

from platform_assets.streaming.topic_spec import EventTime, Record, Topic

SensorKind = Literal[
    "air_temperature",
    "relative_humidity",
    "pm2_5",
    "noise_level",
    "traffic_flow",
    "water_level",
    "water_flow",
    "respiration_rate",
    "oxygen_saturation",
    "oxygen_flow",
    "systolic_pressure",
    "heart_rate",
    "body_temperature",
    "consciousness",
]

# Millionths of a value in the standard unit, a thousand times as large at most, must be whole numbers that a double
# holds exactly, with sums that no table's type is too small for. What is beyond means nothing in any of these units.
LARGEST_VALUE = 1e6

UNITS: Mapping[str, tuple[str, ...]] = {
    "air_temperature": ("Cel", "[degF]", "K"),
    "relative_humidity": ("%",),
    "pm2_5": ("ug/m3", "mg/m3"),
    "noise_level": ("dB",),
    "traffic_flow": ("/h", "/min"),
    "water_level": ("m", "cm"),
    "water_flow": ("L/s", "m3/h"),
    "respiration_rate": ("/min",),
    "oxygen_saturation": ("%",),
    "oxygen_flow": ("L/min",),
    "systolic_pressure": ("mm[Hg]", "kPa"),
    "heart_rate": ("/min",),
    "body_temperature": ("Cel", "[degF]", "K"),
    "consciousness": ("{level}",),
}
"""The units of each kind, as UCUM spells them. The first is the standard unit, to which tables bring the others."""

# By kind, for /min is the standard unit of one kind and not of another one.
_IN_STANDARD_UNIT: Mapping[tuple[str, str], str] = {
    ("air_temperature", "[degF]"): "(value - 32.0) * 5.0 / 9.0",
    ("air_temperature", "K"): "value - 273.15",
    ("pm2_5", "mg/m3"): "value * 1000.0",
    ("traffic_flow", "/min"): "value * 60.0",
    ("water_level", "cm"): "value / 100.0",
    ("water_flow", "m3/h"): "value / 3.6",
    ("systolic_pressure", "kPa"): "value * 7.500615758456564",
    ("body_temperature", "[degF]"): "(value - 32.0) * 5.0 / 9.0",
    ("body_temperature", "K"): "value - 273.15",
}

_SPELLINGS: Mapping[str, str] = {
    "°C": "Cel", "C": "Cel", "°F": "[degF]", "F": "[degF]", "µg/m³": "ug/m3", "μg/m³": "ug/m3", "mg/m³": "mg/m3",
    "dB(A)": "dB", "l/s": "L/s", "m³/h": "m3/h", "l/min": "L/min", "mmHg": "mm[Hg]", "bpm": "/min", "1/min": "/min",
    "1/h": "/h",
}  # fmt: skip

_CASES = " ".join(
    f"WHEN kind = '{kind}' AND unit = '{unit}' THEN {sql}" for (kind, unit), sql in _IN_STANDARD_UNIT.items()
)

MICROS_SQL = f"CAST(floor((CASE {_CASES} ELSE value END) * 1000000.0 + 0.5) AS BIGINT)"
"""A reading's `value` in whole millionths of its kind's standard unit, rounded half up.

SQL that DuckDB and Spark read alike, over `kind`, `unit` and `value`. Whole numbers have exact sums, medians and
comparisons, in any order and by any engine.
"""

_STANDARD_UNITS = " ".join(f"WHEN '{kind}' THEN '{units[0]}'" for kind, units in UNITS.items())
STANDARD_UNIT_SQL = f"CASE kind {_STANDARD_UNITS} END"
"""The standard unit of `kind`, in the same SQL."""


class Reading(Record):
    """One value that one sensor has measured. What a patient wears is a sensor of its own, named by the patient."""

    sensor: Annotated[str, Meta(min_length=1, description="Which sensor; of vitals a token of the patient")]
    kind: Annotated[SensorKind, Meta(description="What is measured")]
    timestamp: Annotated[str, Meta(description="When it was measured, by the sensor's clock")]
    value: Annotated[float, Meta(ge=-LARGEST_VALUE, le=LARGEST_VALUE, description="How much, in `unit`")]
    unit: Annotated[str, Meta(description="The value's unit as UCUM spells it, one of its kind's")]
    place: Annotated[str | None, Meta(description="Where the sensor is: a street, a ward")] = None
    quality: Annotated[
        Literal["good", "uncertain", "bad"] | None,
        Meta(description="What the sensor says of the value; a bad one is kept, and counts in no statistics"),
    ] = None


def spell_unit(unit: str) -> str:
    """The unit as UCUM spells it, where it is another common spelling of one; any other text as it is."""
    return _SPELLINGS.get(unit, unit)


def refuse_unknown_unit(reading: Reading) -> tuple[str, str] | None:
    """Judges the unit: of a value whose unit nobody knows nobody knows the value."""
    if reading.unit not in (known := UNITS[reading.kind]):
        return "unknown_unit", f"unit is {reading.unit!r}; {reading.kind} is in {', '.join(known)}"
    return None


TOPIC = Topic(
    name="telemetry",
    description="Accepted readings of sensors: typed, validated, deduplicated by arrival, however late.",
    record=Reading,
    event_time=EventTime("timestamp"),
    # A sensor measures one value of a kind at a moment. Most have no number for it.
    event_id=("sensor", "kind", "timestamp"),
    subject="sensor",
    event_type="kind",
    kafka_topic="sensor-telemetry",
    rules=(refuse_unknown_unit,),
    spellings={"unit": spell_unit},
)
TELEMETRY, QUARANTINED_TELEMETRY, DEDUPLICATED_TELEMETRY = TOPIC.tables
