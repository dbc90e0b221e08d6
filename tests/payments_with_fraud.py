"""A lakehouse of card payments of two weeks until now, some of them fraud that was reported: made without Spark."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
from deltalake import write_deltalake

from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table
from platform_assets.topics.fraud_reports import FRAUD_REPORTS
from resources.lakehouse import LakehouseResource
from tests.known_cards import write_gold, write_transactions
from tests.spark.card_cases import Transaction, transaction

CARDS, DAYS = 60, 14


def write_payments(lakehouse: LakehouseResource, count: int = 6_000, seed: int = 1) -> None:
    """Honest cards pay about 20 at home by chip; one payment in 25 is fraud: online, abroad, and about five times that.

    All fraud is reported after an hour.
    """
    rng, now = np.random.default_rng(seed), datetime.now(UTC)
    seconds = np.sort(rng.random(count)) * DAYS * 86_400
    is_fraud = (rng.random(count) < 0.04).tolist()
    transactions: list[Transaction] = []
    for place, fraud in enumerate(is_fraud):
        amount = float(np.exp(rng.normal(4.6 if fraud else 3.0, 0.6)))
        transactions.append(
            transaction(
                f"c{rng.integers(CARDS)}",
                (now - timedelta(days=DAYS, seconds=-float(seconds[place]))).replace(microsecond=0),
                f"{amount:.2f}",
                country="FR" if fraud and rng.random() < 0.7 else "DE",
                channel="online" if fraud or rng.random() < 0.3 else "chip",
                device="d1" if rng.random() < (0.3 if fraud else 0.97) else "d2",
                merchant_category="travel" if rng.random() < 0.5 else "grocery",
            )
        )
    write_transactions(lakehouse, transactions)
    write_gold(lakehouse, transactions)
    write_reports(
        lakehouse,
        [(f"t{place}", transactions[place]["event_time"] + timedelta(hours=1)) for place in np.flatnonzero(is_fraud)],
    )


def write_reports(lakehouse: LakehouseResource, reported: list[tuple[str, datetime]], card: str = "c") -> None:
    """Appends reports of fraud to silver.fraud_reports: of which transaction, and when; all of one card."""
    rows = [
        {
            "report_id": f"r-{of}", "transaction_id": of, "verdict": "fraud", "event_time": at, "event_date": at.date(),
            "card_id": card, "customer_id": "u", "source": "customer", "topic": "r", "kafka_partition": 0,
            "kafka_offset": n, "kafka_timestamp": at, "ingested_at": at, "is_anonymous": False,
        }
        for n, (of, at) in enumerate(reported)
    ]  # fmt: skip
    table = create_table(lakehouse.table_uri(FRAUD_REPORTS.name), FRAUD_REPORTS)
    write_deltalake(table, pa.Table.from_pylist(rows, build_arrow_schema(FRAUD_REPORTS)), mode="append")
