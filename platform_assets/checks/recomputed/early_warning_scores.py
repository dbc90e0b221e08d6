"""gold.early_warning_scores once more: the newest vital signs of each hour, and their points by the published table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

import polars as pl

from platform_assets.checks.recomputed.readings import find_micros
from platform_assets.checks.recomputed.snapshots import Portion, Snapshot, collect
from platform_assets.streaming.delta.delta_tables import build_arrow_schema
from platform_assets.tables.telemetry import EARLY_WARNING_SCORES_TABLE
from platform_assets.topics.telemetry import TELEMETRY


def _respiration(n: int) -> int:
    return 3 if n <= 8 or n >= 25 else 2 if n >= 21 else 1 if n <= 11 else 0


def _saturation(n: int) -> int:
    return max(0, min(3, (97 - n) // 2))


def _pressure(n: int) -> int:
    return 3 if n <= 90 or n >= 220 else 2 if n <= 100 else 1 if n <= 110 else 0


def _pulse(n: int) -> int:
    return 3 if n <= 40 or n >= 131 else 2 if n >= 111 else 1 if n <= 50 or n >= 91 else 0


def _temperature(tenths: int) -> int:
    return 3 if tenths <= 350 else 2 if tenths >= 391 else 1 if tenths <= 360 or tenths >= 381 else 0


_WHOLE = 1_000_000
# What a value is rounded to, in millionths, and the points of what it is then.
_TABLE: Mapping[str, tuple[int, Callable[[int], int]]] = {
    "respiration_rate": (_WHOLE, _respiration),
    "oxygen_saturation": (_WHOLE, _saturation),
    "oxygen_flow": (1, lambda n: 2 if n > 0 else 0),
    "systolic_pressure": (_WHOLE, _pressure),
    "heart_rate": (_WHOLE, _pulse),
    "consciousness": (_WHOLE, lambda n: 3 if n > 0 else 0),
    "body_temperature": (100_000, _temperature),
}


def recompute_scores(sources: Mapping[str, Snapshot], day: date, portion: Portion) -> pl.LazyFrame:
    """The rows of the portion (by sensor)."""
    of_day = sources[TELEMETRY.name].of_day(day).filter(portion.holds("sensor"))
    vitals = collect(
        of_day.filter(pl.col("kind").is_in(list(_TABLE)))
        .with_columns(micros=find_micros(), hour_start=pl.col("event_time").dt.truncate("1h"))
        .drop_nulls("micros")
        .sort("event_time", "micros", pl.col("place").fill_null(""))
        .group_by("sensor", "hour_start", "kind", maintain_order=True)
        .agg(pl.col("micros").last(), pl.col("place").last())
    )
    hours: dict[tuple[str, Any], dict[str, tuple[int, str | None]]] = {}
    for sensor, hour, kind, micros, place in vitals.iter_rows():
        unit, points = _TABLE[kind]
        hours.setdefault((sensor, hour), {})[kind] = (points((2 * micros + unit) // (2 * unit)), place)
    rows = [_describe(day, sensor, hour, signs) for (sensor, hour), signs in hours.items()]
    return pl.DataFrame(rows, schema=pl.Schema(build_arrow_schema(EARLY_WARNING_SCORES_TABLE))).lazy()


def _describe(day: date, sensor: str, hour: Any, signs: Mapping[str, tuple[int, str | None]]) -> dict[str, Any]:
    points = {kind: found[0] for kind, found in signs.items()}
    score, is_red = sum(points.values()), 3 in points.values()
    return {
        "report_date": day,
        "sensor": sensor,
        "hour_start": hour,
        "place": max((place for _, place in signs.values() if place is not None), default=None),
        **{f"{kind}_points": points.get(kind) for kind in _TABLE},
        "score": score,
        "known_signs": len(points),
        "missing_signs": ",".join(sorted(set(_TABLE) - set(points))),
        "has_red_sign": is_red,
        "risk": "high" if score > 6 else "medium" if score > 4 else "low-medium" if is_red else "low",
    }
