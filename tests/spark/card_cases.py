"""Generated card transactions, as rows of silver.transactions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from platform_assets.streaming.delta.delta_tables import build_arrow_schema
from platform_assets.topics.transactions import TRANSACTIONS

Transaction = dict[str, Any]

MICROSECOND, MINUTE = timedelta(microseconds=1), timedelta(minutes=1)
# At the borders of both streams' windows, of a day, and inside.
STARTS = [
    datetime(2024, 2, 29, 12, tzinfo=UTC),
    datetime(2024, 2, 29, 12, 0, 0, 123456, tzinfo=UTC),
    datetime(2024, 2, 29, 12, 10, tzinfo=UTC) - MICROSECOND,
    datetime(2024, 2, 29, 23, 58, 30, tzinfo=UTC),
    datetime(2024, 3, 1, tzinfo=UTC),
]
PAUSES = [
    timedelta(0), MICROSECOND, timedelta(seconds=7), MINUTE, 10 * MINUTE - MICROSECOND, 10 * MINUTE,
    10 * MINUTE + MICROSECOND, 23 * MINUTE, 60 * MINUTE, 180 * MINUTE,
]  # fmt: skip
LARGEST = Decimal("9999999999999999.99")
AMOUNTS = [Decimal(text) for text in ("0.00", "0.01", "0.10", "1.10", "19.99", "250.00")] + [LARGEST]


def transaction(
    card_id: str,
    event_time: datetime,
    amount: str | Decimal = "10.00",
    kind: str = "payment",
    merchant_id: str = "m1",
    country: str | None = "DE",
    currency: str = "EUR",
    merchant_category: str = "grocery",
    customer_id: str | None = None,
    channel: str | None = "chip",
    device: str | None = None,
) -> Transaction:
    return {
        "card_id": card_id, "event_time": event_time, "amount": Decimal(amount), "kind": kind,
        "merchant_id": merchant_id, "country": country, "currency": currency, "merchant_category": merchant_category,
        "customer_id": customer_id or f"owner of {card_id}", "channel": channel, "device": device,
    }  # fmt: skip


@st.composite
def card_histories(draw: st.DrawFn) -> list[Transaction]:
    """One card's transactions, a pause at the border of a window between any two, in any order of arrival."""
    time = draw(st.sampled_from(STARTS))
    found = []
    for _ in range(draw(st.integers(1, 9))):
        found.append(
            transaction(
                "",
                time,
                draw(st.sampled_from(AMOUNTS)),
                draw(st.sampled_from(["payment", "payment", "payment", "refund", "reversal"])),
                draw(st.sampled_from(["m1", "m1", "m2", "m3"])),
                draw(st.sampled_from(["DE", "DE", "FR", None])),
                draw(st.sampled_from(["EUR", "EUR", "JPY"])),
                draw(st.sampled_from(["grocery", "travel"])),
                channel=draw(st.sampled_from(["chip", "online", "recurring", None])),
                device=draw(st.sampled_from(["d1", "d1", "é, d2", None])),
            )
        )
        time += draw(st.sampled_from(PAUSES))
    return draw(st.permutations(found))


def cards(least: int = 25) -> st.SearchStrategy[list[Transaction]]:
    """Many cards' histories in one table, two cards to a customer: one Spark job then tries dozens of cases."""
    return st.lists(card_histories(), min_size=least, max_size=least + 15).map(
        lambda histories: [
            {**each, "card_id": f"c{number}", "customer_id": f"u{number // 2}"}
            for number, own in enumerate(histories)
            for each in own
        ]
    )


def transactions_table(transactions: Sequence[Transaction], first_offset: int = 0) -> pa.Table:
    """Transactions as rows of silver.transactions; the position is the Kafka offset."""
    rows = [
        {
            **each, "transaction_id": f"t{number}", "topic": "t", "kafka_partition": number % 3,
            "kafka_offset": number, "kafka_timestamp": each["event_time"], "ingested_at": each["event_time"],
            "event_date": each["event_time"].astimezone(UTC).date(), "is_anonymous": False,
        }
        for number, each in enumerate(transactions, first_offset)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, build_arrow_schema(TRANSACTIONS))
