"""The table `gold.card_features`, as a value: what is known of each card (`platform_assets.fraud.card_features`)."""

from __future__ import annotations

from platform_assets.fraud.features import PROFILE_DAYS
from platform_assets.tables.spec import Column, TableSpec

CARD_FEATURES = TableSpec(
    name="gold.card_features",
    description="What is known of a card at this moment: how it usually pays, and what it has paid within the hour.",
    grain="card that has paid within the hour, or on one of the days of its profile",
    key=("card_id",),
    columns=(
        Column("card_id", "string", "Which card"),
        Column("as_of", "timestamp", "Up to when payments are known: what the streams have not read yet is not in it"),
        Column("computed_at", "timestamp", "When the row was computed"),
        Column("known_days", "bigint", f"Days with a payment, of the last {PROFILE_DAYS} before the day (UTC) of as_of;"
               " null: none. These days make the profile, the next three columns"),
        Column("usual_amounts", "map<string,double>", "Mean payment of the profile's days, by currency"),
        Column("countries", "array<string>", "Countries in which it has paid; null: not known, or too many"),
        Column("devices", "array<string>", "Devices of its payments online; null: not known, or too many"),
        Column("recent_payments", "bigint", "Payments within nearly ten minutes, as in gold.card_velocity; null: fewer "
               "than two"),
        Column("recent_countries", "bigint", "Distinct countries of these payments"),
        Column("recent_merchants", "bigint", "Distinct merchants of these payments"),
        Column("hour_payments", "bigint", "Payments within nearly an hour, as in gold.spend_by_card; null: none"),
        Column("hour_amounts", "map<string,double>", "Sum of these payments, by currency"),
        Column("hour_mean_amounts", "map<string,double>", "Mean of these payments, by currency"),
    ),
    statistics_columns=("as_of",),
)  # fmt: skip
