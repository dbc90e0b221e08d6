"""The tables of the fraud model's versions, as values: every version that was trained, and which one judges payments.

Their writer is `platform_assets.fraud.model_register`; what scores payments reads both.
"""

from __future__ import annotations

from platform_assets.tables.spec import Column, EventRoles, TableSpec

FRAUD_MODELS = TableSpec(
    name="platform.fraud_models",
    description="Every version of the fraud model that was trained: its scorecard, and how well it did.",
    grain="version",
    key=("version",),
    columns=(
        Column("version", "bigint", "Counts from 1"),
        Column("trained_at", "timestamp", "When"),
        Column("data_from", "timestamp", "The first transaction that it was trained or measured with"),
        Column("data_until", "timestamp", "The last one"),
        Column("rows", "bigint", "Transactions with a known label that it was trained and measured with"),
        Column("scorecard", "string", "JSON: the model (platform_assets.fraud.scorecard)"),
        Column("metrics", "string", "JSON: how well it did on its newest rows, and next to what"),
        Column("verdict", "string", "promoted, shadow, or refused with the reasons"),
    ),
    statistics_columns=("version", "trained_at"),
)

FRAUD_CHAMPIONS = TableSpec(
    name="platform.fraud_champions",
    description="Which version of the fraud model judges payments since when, which one is compared with it, and why.",
    grain="change; the newest row holds",
    key=("changed_at",),
    columns=(
        Column("changed_at", "timestamp", "When"),
        Column("action", "string", "promote, roll_back or shadow"),
        Column("champion", "bigint", "The version that judges payments"),
        Column("shadow", "bigint", "The version that is scored along with it and judges nothing; null: none"),
        Column("threshold", "double", "A score from here on is an alert"),
        Column("by", "string", "Who changed it"),
        Column("reason", "string", "Why"),
    ),
    statistics_columns=("changed_at", "champion"),
)

FRAUD_SERVING = TableSpec(
    name="platform.fraud_serving",
    description="Which version of the fraud model judges the transactions of a topic now: what each batch reads.",
    grain="topic",
    key=("topic",),
    columns=(
        Column("topic", "string", "Kafka topic of the transactions"),
        Column("champion", "bigint", "The version that judges; null: none does"),
        Column("shadow", "bigint", "The version that is scored along with it; null: none"),
        Column("threshold", "double", "A score from here on is an alert"),
        Column("fraud_devices", "map<string,int>", "Cards that were reported as fraud, by the devices with which they "
               "were used; null: not known"),
    ),
)  # fmt: skip

CARD_RELEASES = TableSpec(
    name="platform.card_releases",
    description="Who released a held card, when and why. A hold of gold.card_holds that is older holds it no more.",
    grain="release",
    key=("card_id", "as_of"),
    columns=(
        Column("card_id", "string", "Which card"),
        Column("as_of", "timestamp", "When it was released: holds until here are over"),
        Column("state", "string", "released"),
        Column("by", "string", "Who released it"),
        Column("reason", "string", "Why"),
        Column("customer_id", "string", "Whose card it is"),
    ),
    statistics_columns=("as_of",),
    roles=EventRoles(user_id="customer_id"),
)

FRAUD_TABLES = (FRAUD_MODELS, FRAUD_CHAMPIONS)
