"""Readings of sensors as reports count them: in the kind's standard unit, without those that are bad."""

from __future__ import annotations

import polars as pl

_FAHRENHEIT, _KELVIN = ("[degF]", lambda value: (value - 32.0) * 5.0 / 9.0), ("K", lambda value: value - 273.15)
_CONVERSIONS = (
    ("air_temperature", *_FAHRENHEIT),
    ("air_temperature", *_KELVIN),
    ("body_temperature", *_FAHRENHEIT),
    ("body_temperature", *_KELVIN),
    ("pm2_5", "mg/m3", lambda value: value * 1000.0),
    ("traffic_flow", "/min", lambda value: value * 60.0),
    ("water_level", "cm", lambda value: value / 100.0),
    ("water_flow", "m3/h", lambda value: value / 3.6),
    ("systolic_pressure", "kPa", lambda value: value * 7.500615758456564),
)


def find_micros() -> pl.Expr:
    """The value in whole millionths of the standard unit, rounded half up; null for a reading that is bad."""
    standard = pl.col("value")
    for kind, unit, convert in _CONVERSIONS:
        is_so = (pl.col("kind") == kind) & (pl.col("unit") == unit)
        standard = pl.when(is_so).then(convert(pl.col("value"))).otherwise(standard)
    micros = (standard * 1_000_000.0 + 0.5).floor().cast(pl.Int64)
    return pl.when(pl.col("quality").ne_missing("bad")).then(micros)
