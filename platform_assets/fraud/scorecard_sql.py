"""A scorecard as one expression of Spark SQL: no function of ours, no join, nothing that a real-time query refuses.

Numbers are written as doubles to the last bit: as decimals (Spark's default for `0.1`) sums of many parts would be off.
"""

from __future__ import annotations

from collections.abc import Iterable

from platform_assets.fraud.scorecard import Part, Scorecard

# What stands for itself between quotes. All else is escaped: a quote, a backslash, a line's end, and the `${` that
# Spark would replace by a setting of its own.
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 _-./&+")


def score_sql(scorecard: Scorecard, added: Iterable[str] | None = None) -> str:
    """The probability of fraud, never null, over columns that are named as the features.

    `added` is SQL of what each part adds, in their order, where that is known already.
    """
    numbers = map(part_sql, scorecard.parts) if added is None else added
    raw = " + ".join([write_double(scorecard.baseline), *(f"({each})" for each in numbers)])
    logit = f"{write_double(scorecard.slope)} * ({raw}) + {write_double(scorecard.intercept)}"
    return f"1.0D / (1.0D + exp(-({logit})))"


def part_sql(part: Part) -> str:
    """What one feature adds to the raw score, over the column with its name."""
    column, missing = quote_name(part.feature), write_double(part.missing)
    if part.kind == "category":
        return _write_categories(part, column, missing)
    number = f"CAST({column} AS DOUBLE)"
    # Spark holds NaN for greater than every number; the model holds it for one that is not known.
    return f"CASE WHEN {column} IS NULL OR isnan({number}) THEN {missing} ELSE {_write_steps(part, number)} END"


def _write_steps(part: Part, number: str) -> str:
    """How many thresholds lie below the number says which value is meant.

    Spark plans the query anew for each batch, and nothing is scored meanwhile: as tables, which are constants, a model
    is planned twice as fast as with a branch for each step.
    """
    if not part.thresholds:
        return write_double(part.values[0])
    below = f"filter({_write_array(part.thresholds)}, threshold -> threshold < {number})"
    return f"element_at({_write_array(part.values)}, 1 + size({below}))"


def _write_categories(part: Part, column: str, missing: str) -> str:
    if not part.steps:
        return missing
    names = sorted(part.steps)
    values = _write_array([part.values[part.steps[name]] for name in names])
    table = f"map_from_arrays(array({', '.join(map(quote_text, names))}), {values})"
    return f"coalesce(try_element_at({table}, {column}), {missing})"


def _write_array(numbers: Iterable[float]) -> str:
    return f"array({', '.join(map(write_double, numbers))})"


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
