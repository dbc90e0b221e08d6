"""The tables of recommendations, for those who write them by night and in the stream group."""

from __future__ import annotations

from platform_assets.tables.spec import Column, TableSpec

PRODUCT_NEIGHBOURS_TABLE = TableSpec(
    name="gold.product_neighbours",
    description="Which products a product leads to: what users who deal with the one deal with too, and by how much.",
    grain="one ordered pair of different products",
    key=("product_id", "other_product_id"),
    columns=(
        Column("product_id", "string", "Product", nullable=False),
        Column("rank", "int", "1 is the best neighbour", nullable=False),
        Column("other_product_id", "string", "Product to which it leads", nullable=False),
        Column("score", "double", "Coefficient of the linear model; above 0", nullable=False),
        Column("computed_at", "timestamp", "When it was computed", nullable=False),
    ),
)

# Twice what a page shows: what is sold out, or was bought since, is left out by the page.
MOST_RECOMMENDED = 20
IN_SESSION = "basis = 'session'"

PRODUCT_RECOMMENDATIONS_TABLE = TableSpec(
    name="gold.product_recommendations",
    description="Products to show to a user: new to him, best first; and what is popular in each country.",
    grain="one user or country, and rank, by each basis",
    key=("basis", "user_id", "country", "rank"),
    columns=(
        Column("basis", "string", "history, session (the user is in the shop; goes first) or country", nullable=False),
        Column("user_id", "string", "For whom; null by country"),
        Column("country", "string", "For whom is there and not known; null: anywhere, and of a user's rows"),
        Column("rank", "int", "1 is best", nullable=False),
        Column("product_id", "string", "What to show", nullable=False),
        Column("score", "double", "What it is ranked by; to be compared within a user or country", nullable=False),
        Column("reason", "string", "The product that leads to it, or where it is popular", nullable=False),
        Column("computed_at", "timestamp", "When it was computed", nullable=False),
    ),
    partition_columns=("basis",),
    statistics_columns=("computed_at",),
)
