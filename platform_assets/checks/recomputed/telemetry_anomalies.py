"""gold.telemetry_anomalies once more: each sensor's readings of a kind one after the other, in plain Python."""

from __future__ import annotations

import bisect
import itertools
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl

from platform_assets.checks.recomputed.readings import find_micros
from platform_assets.checks.recomputed.snapshots import Portion, Snapshot, collect
from platform_assets.reports import telemetry_anomalies as rules
from platform_assets.reports.telemetry_thresholds import Threshold, load_thresholds
from platform_assets.streaming.delta.delta_tables import build_arrow_schema
from platform_assets.streaming.moments import at_micros, count_micros
from platform_assets.tables.telemetry import TELEMETRY_ANOMALIES_TABLE
from platform_assets.topics.telemetry import TELEMETRY, UNITS
from resources.settings import load_settings

_DAY, _HOUR = rules.DAY_MICROS, rules.HOUR_MICROS
_WINDOW = 2 * rules.STEP_READINGS


@dataclass(frozen=True)
class _Reading:
    moment: int
    micros: int
    place: str | None


@dataclass
class _Series:
    """One sensor's readings of one kind: the good ones of two days, and when it spoke in eight.

    `spoken` has the moments of all readings by day, `medians` the median of each hour of eight days.
    """

    good: list[_Reading] = field(default_factory=list)
    spoken: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    places: set[str] = field(default_factory=set)
    medians: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class _Flag:
    """One reading of which a rule is true; `number` is its place among the good ones of the day."""

    number: int
    reading: _Reading
    since: int
    value: float
    expected: float | None
    is_critical: bool

    @property
    def distance(self) -> float:
        return 0.0 if self.expected is None else abs(self.value - self.expected)


def recompute_anomalies(sources: Mapping[str, Snapshot], day: date, portion: Portion) -> pl.LazyFrame:
    """The rows of the portion (by sensor)."""
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    end = start + timedelta(days=1)
    snapshot = sources[TELEMETRY.name]
    newest = collect(snapshot.between("event_time", start, end).select(pl.col("event_time").max()))
    rows: list[dict[str, Any]] = []
    if (last := newest.item()) is not None:
        read = snapshot.between("event_time", start - timedelta(days=rules.USUAL_DAYS), end)
        begin = count_micros(start)
        thresholds = {each.kind: each for each in load_thresholds(load_settings().telemetry_thresholds)}
        for (sensor, kind), series in _read_series(read.filter(portion.holds("sensor")), begin).items():
            if kind in thresholds:
                for found in _judge(series, thresholds[kind], begin, count_micros(last)):
                    rows.append({"report_date": day, "sensor": sensor, "kind": kind, **found})
    schema = pl.Schema(build_arrow_schema(TELEMETRY_ANOMALIES_TABLE))
    return pl.DataFrame(rows, schema=schema).lazy()


def _read_series(read: pl.LazyFrame, begin: int) -> dict[tuple[str, str], _Series]:
    """The series of eight days. Of several readings at one moment the greatest good one counts."""
    keys = ["sensor", "kind", "moment"]
    measured = collect(
        read.with_columns(micros=find_micros(), moment=pl.col("event_time").dt.epoch("us"))
        .group_by(keys)
        .agg(pl.col("micros").max(), pl.col("place").max())
    ).sort(keys)
    found: dict[tuple[str, str], _Series] = defaultdict(_Series)
    for sensor, kind, moment, micros, place in measured.iter_rows():
        series = found[sensor, kind]
        series.spoken[moment // _DAY].append(moment)
        if place is not None:
            series.places.add(place)
        if micros is not None and moment >= begin - _DAY:
            series.good.append(_Reading(moment, micros, place))
    hour = (pl.col("moment") // _HOUR).alias("hour")
    medians = measured.drop_nulls("micros").group_by("sensor", "kind", hour).agg(pl.col("micros").median())
    for sensor, kind, number, median in medians.iter_rows():
        found[sensor, kind].medians[number] = median
    return found


def _judge(series: _Series, threshold: Threshold, begin: int, newest: int) -> Iterator[dict[str, Any]]:
    """All anomalies of the day that begins at `begin`."""
    moments = [reading.moment for reading in series.good]
    first = bisect.bisect_left(moments, begin)
    today = list(enumerate(series.good[first:], first))
    judges: Mapping[str, Callable[..., Iterator[_Flag]]] = {
        "out_of_range": _find_out_of_range,
        "stuck": _find_stuck,
        "step": _find_steps,
        "unusual": _find_unusual,
    }
    for rule, find in judges.items():
        for episode in _join_neighbours(find(series, threshold, today, moments)):
            yield _describe(rule, threshold, episode)
    yield from _find_silences(series, threshold, begin, newest)


def _find_out_of_range(
    series: _Series, threshold: Threshold, today: Sequence[tuple[int, _Reading]], moments: Sequence[int]
) -> Iterator[_Flag]:
    low, high = rules.in_micros(threshold.low), rules.in_micros(threshold.high)
    for number, reading in today:
        limit = low if low is not None and reading.micros < low else high
        if limit is not None and (limit is low or reading.micros > limit):
            yield _Flag(number, reading, reading.moment, reading.micros, limit, True)


def _find_stuck(
    series: _Series, threshold: Threshold, today: Sequence[tuple[int, _Reading]], moments: Sequence[int]
) -> Iterator[_Flag]:
    least = rules.in_micros(threshold.stuck_minutes, 60_000_000)
    for number, reading in today if least is not None else ():
        first = number
        while (
            first > 0
            and series.good[first - 1].micros == reading.micros
            and moments[first - 1] >= reading.moment - _DAY
        ):
            first -= 1
        assert least is not None
        if number - first + 1 >= rules.LEAST_EQUAL and reading.moment - moments[first] >= least:
            yield _Flag(number, reading, moments[first], reading.micros, None, False)


def _find_steps(
    series: _Series, threshold: Threshold, today: Sequence[tuple[int, _Reading]], moments: Sequence[int]
) -> Iterator[_Flag]:
    least = rules.in_micros(threshold.step)
    for number, reading in today if least is not None else ():
        begin = number - _WINDOW + 1
        if begin < 0 or moments[begin] < reading.moment - _DAY:
            continue
        values = [each.micros for each in series.good[begin : number + 1]]
        before = statistics.median(values[: rules.STEP_READINGS])
        after = statistics.median(values[rules.STEP_READINGS :])
        assert least is not None
        if abs(after - before) >= least:
            since = moments[begin + rules.STEP_READINGS]
            yield _Flag(number, reading, since, float(after), float(before), False)


def _find_unusual(
    series: _Series, threshold: Threshold, today: Sequence[tuple[int, _Reading]], moments: Sequence[int]
) -> Iterator[_Flag]:
    least = rules.in_micros(threshold.least_deviation)
    if least is None:
        return
    known: dict[int, tuple[tuple[float, float] | None, tuple[float, float] | None]] = {}
    for number, reading in today:
        hour = reading.moment // _HOUR
        if hour not in known:
            first, last = (bisect.bisect_left(moments, begin * _HOUR) for begin in (hour - rules.RECENT_HOURS, hour))
            recent: list[float] = [each.micros for each in series.good[first:last]]
            usual = [
                series.medians[hour - 24 * back]
                for back in range(1, rules.USUAL_DAYS + 1)
                if hour - 24 * back in series.medians
            ]
            known[hour] = (
                _find_middle(recent, rules.LEAST_RECENT, least),
                _find_middle(usual, rules.LEAST_USUAL_DAYS, least),
            )
        references = [each for each in known[hour] if each is not None]
        sigmas = [abs(reading.micros - middle) - rules.UNUSUAL_SIGMAS * scale for middle, scale in references]
        if sigmas and min(sigmas) > 0:
            middle, scale = references[0]
            is_critical = abs(reading.micros - middle) > rules.CRITICAL_SIGMAS * scale
            yield _Flag(number, reading, reading.moment, reading.micros, middle, is_critical)


def _find_middle(values: Sequence[float], fewest: int, least: int) -> tuple[float, float] | None:
    """The median, and what one sigma of such values counts as; None for too few values."""
    if len(values) < fewest:
        return None
    middle = statistics.median(values)
    deviation = statistics.median([abs(value - middle) for value in values])
    return middle, max(rules.SIGMA * deviation, float(least))


def _join_neighbours(flags: Iterator[_Flag]) -> Iterator[list[_Flag]]:
    episode: list[_Flag] = []
    for flag in flags:
        if episode and flag.number != episode[-1].number + 1:
            yield episode
            episode = []
        episode.append(flag)
    if episode:
        yield episode


def _describe(rule: str, threshold: Threshold, episode: Sequence[_Flag]) -> dict[str, Any]:
    worst = max(episode, key=lambda flag: (flag.distance, -flag.number))
    start, end = min(flag.since for flag in episode), max(flag.reading.moment for flag in episode)
    unit = UNITS[threshold.kind][0]
    value, expected = _spell(worst.value), _spell(worst.expected)
    side = "below" if worst.expected is not None and worst.value < worst.expected else "above"
    words = {
        "out_of_range": f"{value} {unit}, {side} {expected}",
        "stuck": f"{value} {unit} for {(end - start) // 60_000_000} minutes",
        "step": f"from {expected} to {value} {unit}",
        "unusual": f"{value} {unit} where {expected} is usual",
    }
    return {
        "rule": rule,
        "start_time": at_micros(start),
        "end_time": at_micros(end),
        "place": max((flag.reading.place for flag in episode if flag.reading.place is not None), default=None),
        "readings": len(episode),
        "value": worst.value / 1_000_000,
        "expected": None if worst.expected is None else worst.expected / 1_000_000,
        "unit": unit,
        "severity": "critical" if any(flag.is_critical for flag in episode) else "warning",
        "words": words[rule],
    }


def _find_silences(series: _Series, threshold: Threshold, begin: int, newest: int) -> Iterator[dict[str, Any]]:
    today, least = begin // _DAY, rules.in_micros(threshold.silence_minutes, 60_000_000)
    pauses = [
        statistics.median([later - earlier for earlier, later in itertools.pairwise(spoken)])
        for day, spoken in series.spoken.items()
        if day < today and len(spoken) > 1
    ]
    if least is None or len(pauses) < rules.LEAST_SPEAKING_DAYS:
        return
    usual = statistics.median(pauses)
    spoken = [moment for day in sorted(series.spoken) for moment in series.spoken[day]]
    for start, end in [*itertools.pairwise(spoken), (spoken[-1], newest)]:
        pause = end - start
        if end < begin or pause <= max(rules.SILENT_PAUSES * usual, least):
            continue
        is_critical = pause > rules.CRITICAL_PAUSES * usual and pause > 4 * least
        yield {
            "rule": "silence",
            "start_time": at_micros(start),
            "end_time": at_micros(end),
            "place": max(series.places, default=None),
            "readings": 0,
            "value": pause / 1_000_000,
            "expected": usual / 1_000_000,
            "unit": "s",
            "severity": "critical" if is_critical else "warning",
            "words": f"silent for {pause // 60_000_000} minutes, usually a reading each {_spell(usual)} s",
        }


def _spell(micros: float | None) -> str:
    milli = 0 if micros is None else int((micros / 1000 + 0.5) // 1)
    return f"{'-' if milli < 0 else ''}{abs(milli) // 1000}.{abs(milli) % 1000:03}"
