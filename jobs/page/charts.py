"""Charts as inline SVG: made of numbers alone, with their meaning in words for who does not see them."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

_WIDTH, _HEIGHT, _EDGE = 600, 120, 4


def draw_sparkline(values: Sequence[float], words: str) -> Markup:
    """A line over equal steps of time, from 0 up, with its area and its last point. `words` say what it shows."""
    top = max(values, default=0.0) or 1.0
    step = (_WIDTH - 2 * _EDGE) / max(1, len(values) - 1)
    points = [
        f"{_EDGE + step * number:.1f},{_HEIGHT - _EDGE - (_HEIGHT - 2 * _EDGE) * max(0.0, value) / top:.1f}"
        for number, value in enumerate(values)
    ] or [f"{_EDGE},{_HEIGHT - _EDGE}"]
    right, floor = points[-1].partition(",")[0], _HEIGHT - _EDGE
    return Markup(
        '<svg class="sparkline" role="img" viewBox="0 0 {} {}" preserveAspectRatio="none" aria-label="{}">'
        '<polygon class="area" points="{}"/><polyline class="line" points="{}"/><path class="dot" d="M{}h0.01"/></svg>'
    ).format(
        _WIDTH, _HEIGHT, words, f"{_EDGE},{floor} {' '.join(points)} {right},{floor}", " ".join(points), points[-1]
    )


def draw_bar(share: float) -> Markup:
    """A bar of this share (0 to 1) of its place. The number stands next to it: a screen reader passes the bar."""
    width = 100 * min(1.0, max(0.0, share))
    return Markup(
        '<svg class="bar" aria-hidden="true" viewBox="0 0 100 8" preserveAspectRatio="none">'
        '<rect class="track" width="100" height="8" rx="1"/><rect class="part" width="{}" height="8" rx="1"/></svg>'
    ).format(f"{width:.1f}")
