"""Rows as a fraud model is trained with: features of each kind, some of which tell fraud and some of which do not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from platform_assets.fraud.scorecard import Kind, Scorecard

KINDS: dict[str, Kind] = {
    "ln_amount": "number",
    "amount_to_usual": "number",
    "country_is_new": "number",
    "device_is_new": "number",
    "recent_payments": "number",
    "recent_countries": "number",
    "noise": "number",
    "channel": "category",
    "merchant_category": "category",
}
BEGIN = datetime(2027, 1, 1, tzinfo=UTC)
END = BEGIN + timedelta(days=14)


def make_rows(count: int = 20_000, seed: int = 1, fraud: float = 0.02) -> pa.Table:
    """Rows of two weeks, in no order. What is fraud follows from a rule of several features, and from chance."""
    rng = np.random.default_rng(seed)
    is_fraud = rng.random(count) < fraud

    def number(honest: float, of_fraud: float, spread: float, missing: float) -> pa.Array:
        values = np.where(is_fraud, of_fraud, honest) + rng.normal(0, spread, count)
        return pa.array(values, mask=rng.random(count) < missing)

    def flag(honest: float, of_fraud: float, missing: float) -> pa.Array:
        values = (rng.random(count) < np.where(is_fraud, of_fraud, honest)).astype(np.int32)
        return pa.array(values, mask=rng.random(count) < missing)

    channel = np.where(rng.random(count) < np.where(is_fraud, 0.8, 0.3), "online", "chip")
    category = rng.choice(["grocery", "travel", 'it\'s "odd" \\ ${x}', "Bücher 書 \U0001f4da", "\n\t"], count)
    times = [BEGIN + each * (END - BEGIN) for each in rng.random(count).tolist()]
    columns = {
        "transaction_id": [f"t{seed}-{place}" for place in range(count)],
        "event_time": pa.array(times, pa.timestamp("us", "UTC")),
        "card_id": rng.integers(0, 500, count).astype("U4"),
        "ln_amount": number(3, 4, 1.0, 0.01),
        "amount_to_usual": number(0, 1.2, 0.7, 0.1),
        "country_is_new": flag(0.04, 0.6, 0.1),
        "device_is_new": flag(0.05, 0.7, 0.3),
        "recent_payments": pa.array(rng.poisson(np.where(is_fraud, 3.0, 0.3))),
        "recent_countries": pa.array(rng.poisson(np.where(is_fraud, 1.5, 0.1)), mask=rng.random(count) < 0.2),
        "noise": pa.array(rng.normal(0, 1e9, count)),
        "channel": pa.array(channel, mask=rng.random(count) < 0.05),
        "merchant_category": pa.array(category, mask=rng.random(count) < 0.05),
        "label": pa.array(is_fraud),
        "label_known_at": pa.array(times, pa.timestamp("us", "UTC")),
        "is_fraud": pa.array(is_fraud),
    }
    return pa.table(columns)


def make_hard_rows(scorecard: Scorecard, count: int, seed: int = 2) -> pa.Table:
    """Feature columns alone: nulls, unseen categories, values on thresholds and next to them, huge and odd numbers."""
    rng = np.random.default_rng(seed)
    odd = [0.0, -0.0, np.nan, np.inf, -np.inf, 2.0**24 + 1, -(2.0**53) - 2, 1.7e308, -1.7e308, 5e-324]
    columns = {}
    for part in scorecard.parts:
        if part.kind == "category":
            values = [*part.steps, "never seen", "", "'", "\\", "online'", "ONLINE", "${HOME}", None]
            columns[part.feature] = pa.array([values[place] for place in rng.integers(0, len(values), count)])
            continue
        limits = np.array([*part.thresholds])
        numbers = [*limits, *np.nextafter(limits, np.inf), *np.nextafter(limits, -np.inf), *odd]
        chosen = np.where(rng.random(count) < 0.7, rng.choice(numbers, count), rng.normal(0, 1e9, count))
        columns[part.feature] = pa.array(chosen, mask=rng.random(count) < 0.15)
    return pa.table(columns)
