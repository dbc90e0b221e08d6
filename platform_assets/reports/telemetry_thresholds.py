"""The thresholds of `gold.telemetry_anomalies`: a small CSV file that people edit, one line a kind of value.

What it says is judged here, before anything is computed by it: a limit in the wrong unit or a low one above a high one
would make alarms of everything or of nothing.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass, fields
from pathlib import Path

from platform_assets.errors import SettingError
from platform_assets.topics.telemetry import LARGEST_VALUE, UNITS

SHIPPED = Path(__file__).with_name("telemetry_thresholds.csv")
# The report looks back this far: a longer time would never be found.
_LONGEST_STUCK_MINUTES, _LONGEST_SILENCE_MINUTES = 24 * 60, 7 * 24 * 60


@dataclass(frozen=True)
class Threshold:
    """What is unusual for one kind, in its standard unit. None: the kind is not judged by this.

    A value below `low` or above `high` is out of range. `step`: by how much the level must change for a step.
    `least_deviation`: what a sensor's usual deviation counts as at least, so that a quiet sensor's first rounding
    error is nothing unusual. `stuck_minutes`: how long a value must stay the same, `silence_minutes`: how long a
    sensor must say nothing.
    """

    kind: str
    unit: str
    low: float | None
    high: float | None
    step: float | None
    least_deviation: float | None
    stuck_minutes: float | None
    silence_minutes: float | None


_COLUMNS = tuple(field.name for field in fields(Threshold))
_MOST = {"stuck_minutes": _LONGEST_STUCK_MINUTES, "silence_minutes": _LONGEST_SILENCE_MINUTES}


def load_thresholds(path: str = "") -> tuple[Threshold, ...]:
    """The thresholds of a file (empty: those that ship), in its order. A kind without a line is not judged.

    Raises `SettingError`, with file, line and what to write, for what cannot be used.
    """
    file = Path(path).expanduser() if path else SHIPPED
    try:
        lines = list(csv.reader(file.read_text(encoding="utf-8-sig").splitlines(), strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SettingError(f"HEADRACE_TELEMETRY_THRESHOLDS: {file} cannot be read as CSV in UTF-8: {error}.") from None
    if not lines or sorted(lines[0]) != sorted(_COLUMNS):
        found = ",".join(lines[0]) if lines else "nothing"
        raise SettingError(f"{file}, line 1: the columns must be {','.join(_COLUMNS)}; there is {found}.")
    found_kinds: dict[str, int] = {}
    thresholds = []
    for number, cells in enumerate(lines[1:], 2):
        if not cells:
            continue
        try:
            threshold = _read(dict(zip(lines[0], cells, strict=True)))
        except ValueError as error:
            said = f"{len(cells)} cells in place of {len(_COLUMNS)}" if len(cells) != len(_COLUMNS) else error
            raise SettingError(f"{file}, line {number}: {said}.") from None
        if (first := found_kinds.setdefault(threshold.kind, number)) != number:
            raise SettingError(f"{file}, line {number}: line {first} is about {threshold.kind} as well. Remove one.")
        thresholds.append(threshold)
    if not thresholds:
        raise SettingError(f"{file} has no line but its first: nothing would be judged. Copy the lines of {SHIPPED}.")
    return tuple(thresholds)


def _read(cells: dict[str, str]) -> Threshold:
    """One line. Raises `ValueError`, which says what is wrong."""
    kind, unit = cells["kind"].strip(), cells["unit"].strip()
    if kind not in UNITS:
        raise ValueError(f"there is no kind {kind!r}. There are {', '.join(UNITS)}")
    if unit != UNITS[kind][0]:
        raise ValueError(f"unit is {unit!r}, and tables have {kind} in {UNITS[kind][0]}. Write its values in that unit")
    numbers = {name: _read_number(name, cells[name].strip()) for name in _COLUMNS[2:]}
    low, high = numbers["low"], numbers["high"]
    if low is not None and high is not None and low > high:
        raise ValueError(f"low is {low:g}, above high, which is {high:g}")
    return Threshold(kind, unit, **numbers)


def _read_number(name: str, text: str) -> float | None:
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"{name} is {text!r}, not a number such as 12.5. Leave it empty for no such rule") from None
    if not math.isfinite(number) or abs(number) > LARGEST_VALUE * 1000:
        raise ValueError(f"{name} is {text}, which no value can be compared with")
    if name not in ("low", "high") and not 0 < number <= _MOST.get(name, math.inf):
        most = f" up to {_MOST[name]}" if name in _MOST else ""
        raise ValueError(f"{name} is {text}. Give a number above 0{most}, or leave it empty for no such rule")
    return number
