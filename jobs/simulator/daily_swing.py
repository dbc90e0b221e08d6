"""How the hours of the day change what people do: most at 20:00 UTC, least twelve hours later, a cosine between."""

from __future__ import annotations

import math

_DAY = 24 * 3600 * 1_000_000
_PEAK = 20 / 24 * _DAY


def find_intensity(at: int, swing: float) -> float:
    """What happens at a moment (microseconds since 1970), compared with the day's mean, which is 1."""
    return 1 + swing * math.cos(_angle(at))


def find_mean_intensity(start: int, end: int, swing: float) -> float:
    """The mean of `find_intensity` over a period, which must not be empty."""
    angles = (end - start) / _DAY * 2 * math.pi
    return 1 + swing * (math.sin(_angle(start) + angles) - math.sin(_angle(start))) / angles


def _angle(at: int) -> float:
    return (at % _DAY - _PEAK) / _DAY * 2 * math.pi
