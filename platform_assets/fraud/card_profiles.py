"""A card's profile in SQL (DuckDB): what it has done on the days before one, from `gold.card_days`.

`gold.card_features` and the rows of a training take it from here, so that both say the same of a card.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from platform_assets.delta_reader import as_timestamptz
from platform_assets.fraud.features import PROFILE_DAYS

PROFILE_COLUMNS = ("known_days", "usual_amounts", "countries", "devices")
"""What a profile says of a card, as columns of `gold.card_features`."""

# A card with more is a test card or one that stands for many. What it has not been used with says nothing then, and
# each reader of the table would hold a list of thousands.
MOST_NAMES = 50


def find_profile_span(as_of: datetime) -> tuple[datetime, datetime]:
    """First moment of the days that make the profiles of a moment (UTC), and the first moment after them.

    The day of the moment itself is not among them: its row changes all day long.
    """
    day = as_of.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return day - timedelta(days=PROFILE_DAYS), day


def floor_moment(moment: datetime, step: timedelta) -> datetime:
    """The newest whole step of UTC that is not after a moment."""
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return epoch + (moment - epoch) // step * step


def build_profiles_sql(days: str, as_of: datetime) -> str:
    """A query for `card_id` and `PROFILE_COLUMNS`, a row a card, over a relation with rows of `gold.card_days`."""
    first, end = find_profile_span(as_of)
    chosen = f"window_start >= {as_timestamptz(first)} AND window_start < {as_timestamptz(end)}"
    # Names are told apart before anything is collected: lists of lists of all days took three times as long.
    return f"""
WITH own_days AS NOT MATERIALIZED (SELECT * FROM {days} WHERE {chosen})
SELECT card_id, known_days, usual_amounts, countries, devices
FROM (SELECT card_id, count(DISTINCT window_start) AS known_days FROM own_days GROUP BY card_id)
JOIN (
  SELECT card_id, map(list(currency ORDER BY currency), list(usual ORDER BY currency)) AS usual_amounts FROM (
    SELECT card_id, currency, CAST(sum(total_amount) AS DOUBLE) / sum(payment_count) AS usual
    FROM own_days GROUP BY card_id, currency
  ) GROUP BY card_id
) USING (card_id)
LEFT JOIN ({_join_names("countries")}) USING (card_id)
LEFT JOIN ({_join_names("devices")}) USING (card_id)"""


def _join_names(column: str) -> str:
    """SQL: the distinct names of each card in a column of lists, in order; null for too many to mean anything."""
    return f"""
  SELECT card_id, CASE WHEN count(*) <= {MOST_NAMES} THEN list(name ORDER BY name) END AS {column}
  FROM (SELECT DISTINCT card_id, unnest({column}) AS name FROM own_days) GROUP BY card_id"""
