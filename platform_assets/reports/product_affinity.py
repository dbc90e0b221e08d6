"""gold.product_affinity: which products are bought together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from platform_assets.reports.daily_report import DailyReport, ReportInput
from platform_assets.reports.days import DayRange
from platform_assets.streams.events import EVENTS
from platform_assets.tables.spec import Column, TableSpec

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

# A reseller's basket of a thousand products would make a million pairs, and say nothing about what goes together.
MAX_PRODUCTS_OF_ONE_BASKET = 100

PRODUCT_AFFINITY_TABLE = TableSpec(
    name="gold.product_affinity",
    description="How often who bought one product on a UTC day also bought another one, and how much that says.",
    grain="one day and ordered pair of different products",
    key=("report_date", "product_id", "other_product_id"),
    columns=(
        Column("report_date", "date", "UTC day of the purchases", nullable=False),
        Column("product_id", "string", "Product bought", nullable=False),
        Column("other_product_id", "string", "Product bought by the same user on the same day", nullable=False),
        Column("baskets", "bigint", "Baskets of the day: users who bought something, all they bought", nullable=False),
        Column("product_baskets", "bigint", "Baskets with the product", nullable=False),
        Column("other_baskets", "bigint", "Baskets with the other one", nullable=False),
        Column("shared_baskets", "bigint", "Baskets with both", nullable=False),
        Column("support", "double", "shared_baskets / baskets, 0 to 1", nullable=False),
        Column("confidence", "double", "shared_baskets / product_baskets, 0 to 1", nullable=False),
        Column("lift", "double", "confidence / (other_baskets / baskets): 1 is chance", nullable=False),
    ),
    partition_columns=("report_date",),
)


def relate_products(events: DataFrame) -> DataFrame:
    """Rows of `PRODUCT_AFFINITY_TABLE` for every day among `events` (columns of silver.events).

    A basket is what one user bought on one UTC day, each product once; purchases without a product are in none, and
    baskets of more than `MAX_PRODUCTS_OF_ONE_BASKET` products are left out altogether. Support, confidence and lift as
    in Agrawal, Imielinski, Swami: Mining association rules (1993), and Brin et al. (1997, there "interest"), for rules
    of one product each side.
    """
    from pyspark.sql import functions as F

    bought = (
        events.where((F.col("event_type") == "purchase") & F.col("product_id").isNotNull())
        .select(F.to_date("event_time").alias("report_date"), "user_id", "product_id")
        .distinct()
    )
    baskets = (
        bought.groupBy("report_date", "user_id")
        .agg(F.collect_list("product_id").alias("products"))
        .where(F.size("products") <= MAX_PRODUCTS_OF_ONE_BASKET)
    )
    per_day = baskets.groupBy("report_date").agg(F.count(F.lit(1)).alias("baskets"))
    products = baskets.select("report_date", "products", F.explode("products").alias("product_id"))
    per_product = products.groupBy("report_date", "product_id").agg(F.count(F.lit(1)).alias("product_baskets"))
    pairs = (
        products.select("report_date", "product_id", F.explode("products").alias("other_product_id"))
        .where(F.col("product_id") != F.col("other_product_id"))
        .groupBy("report_date", "product_id", "other_product_id")
        .agg(F.count(F.lit(1)).alias("shared_baskets"))
    )
    others = per_product.select(
        "report_date",
        F.col("product_id").alias("other_product_id"),
        F.col("product_baskets").alias("other_baskets"),
    )
    shared, all_baskets = F.col("shared_baskets"), F.col("baskets")
    return (
        pairs.join(per_product, ["report_date", "product_id"])
        .join(others, ["report_date", "other_product_id"])
        .join(F.broadcast(per_day), "report_date")
        .select(
            "report_date",
            "product_id",
            "other_product_id",
            "baskets",
            "product_baskets",
            "other_baskets",
            "shared_baskets",
            (shared / all_baskets).alias("support"),
            (shared / F.col("product_baskets")).alias("confidence"),
            # One division of whole numbers: the same to the bit in every engine.
            (shared * all_baskets / (F.col("product_baskets") * F.col("other_baskets"))).alias("lift"),
        )
    )


def _compute(inputs: Mapping[str, DataFrame], days: DayRange) -> DataFrame:
    events = inputs[EVENTS.name].where(days.predicate("event_date"))
    return relate_products(events.select("event_type", "event_time", "user_id", "product_id"))


PRODUCT_AFFINITY = DailyReport(table=PRODUCT_AFFINITY_TABLE, inputs=(ReportInput(EVENTS),), compute=_compute)
