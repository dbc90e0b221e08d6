"""A scorecard as one expression of Spark SQL: no function of ours, no join, nothing that a real-time query refuses.

Numbers are written as doubles to the last bit: as decimals (Spark's default for `0.1`) sums of many parts would be off.
"""

from __future__ import annotations

from collections.abc import Sequence

from platform_assets.fraud.scorecard import Part, Scorecard

# What stands for itself between quotes. All else is escaped: a quote, a backslash, a line's end, and the `${` that
# Spark would replace by a setting of its own.
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 _-./&+")


def score_sql(scorecard: Scorecard) -> str:
    """The probability of fraud, never null, over columns that are named as the features."""
    raw = " + ".join([write_double(scorecard.baseline), *(f"({part_sql(part)})" for part in scorecard.parts)])
    logit = f"{write_double(scorecard.slope)} * ({raw}) + {write_double(scorecard.intercept)}"
    return f"1.0D / (1.0D + exp(-({logit})))"


def part_sql(part: Part) -> str:
    """What one feature adds to the raw score, over the column with its name."""
    column, missing = quote_name(part.feature), write_double(part.missing)
    if part.kind == "category":
        return _write_categories(part, column, missing)
    number = f"CAST({column} AS DOUBLE)"
    steps = _write_steps(number, part.thresholds, part.values)
    # Spark holds NaN for greater than every number; the model holds it for one that is not known.
    return f"CASE WHEN {column} IS NULL OR isnan({number}) THEN {missing} ELSE {steps} END"


def _write_steps(number: str, thresholds: Sequence[float], values: Sequence[float]) -> str:
    """A search by halves: a value of 32 is found by five comparisons, not by up to 31."""
    if not thresholds:
        return write_double(values[0])
    middle = len(thresholds) // 2
    low = _write_steps(number, thresholds[:middle], values[: middle + 1])
    high = _write_steps(number, thresholds[middle + 1 :], values[middle + 1 :])
    return f"CASE WHEN {number} <= {write_double(thresholds[middle])} THEN {low} ELSE {high} END"


def _write_categories(part: Part, column: str, missing: str) -> str:
    known: dict[int, list[str]] = {}
    for category, step in part.steps.items():
        known.setdefault(step, []).append(quote_text(category))
    if not known:
        return missing
    branches = " ".join(
        f"WHEN {column} IN ({', '.join(sorted(names))}) THEN {write_double(part.values[step])}"
        for step, names in sorted(known.items())
    )
    return f"CASE {branches} ELSE {missing} END"


def write_double(value: float) -> str:
    """A double of Spark SQL, the same to the last bit."""
    return f"{float(value)!r}D"


def quote_name(name: str) -> str:
    """A column's name in Spark SQL."""
    return "`" + name.replace("`", "``") + "`"


def quote_text(text: str) -> str:
    """A text of Spark SQL, whatever is in it."""
    return "'" + "".join(map(_escape, text)) + "'"


def _escape(character: str) -> str:
    if character in _PLAIN:
        return character
    code = ord(character)
    return f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}"
