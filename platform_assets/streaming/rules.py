"""What the rules of several streams have in common. A rule is a stream's rows once more: SQL in DuckDB's dialect."""

from __future__ import annotations

from datetime import timedelta

from platform_assets.streaming.result_span import in_words

# Rounded by its decimal digits, as Spark rounds a double: 1.005 is 1.01, although the double lies a little below.
AMOUNT = "try_cast(revenue::VARCHAR AS DECIMAL(18, 2))"


def events_in_windows(window: timedelta, slide: timedelta, type_column: str, *event_types: str) -> str:
    """A query for the events of these types (in `type_column`), each once for every sliding window that it lies in.

    The columns are those of `events`, with `window_start` and `window_end`. Windows begin at whole slides of UTC.
    """
    size, step = f"INTERVAL '{in_words(window)}'", f"INTERVAL '{in_words(slide)}'"
    types = ", ".join(f"'{event_type}'" for event_type in event_types)
    return f"""
        SELECT *, window_start + {size} AS window_end FROM (
          SELECT *, unnest(generate_series(newest - {size} + {step}, newest, {step})) AS window_start FROM (
            SELECT *, time_bucket({step}, event_time) AS newest FROM events WHERE {type_column} IN ({types})))"""
