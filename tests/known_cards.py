"""Generated transactions over weeks, their tables, and in plain Python what is known of a card and of a payment."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import duckdb
from deltalake import write_deltalake
from hypothesis import strategies as st

from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table
from platform_assets.streams import card_days, spend_by_card, velocity
from platform_assets.topics.transactions import TRANSACTIONS
from resources.lakehouse import LakehouseResource
from tests.spark.card_cases import MICROSECOND, MINUTE, Transaction, transaction, transactions_table

LAG = timedelta(seconds=40)
DAY = timedelta(days=1)
# In the middle of a week, so that 28 days before it and a day after it are in its history.
NOON = datetime(2024, 2, 29, 12, 0, 30, tzinfo=UTC)
MIDNIGHT = datetime(2024, 2, 29, tzinfo=UTC)
# Back from NOON: at the borders of the lag, of both windows, of the day and of the profile, and inside.
MOMENTS = [
    *(NOON - LAG + n * MICROSECOND for n in (-1, 0, 1)),
    *(NOON - n * MINUTE for n in (0, 1, 3, 9, 10, 30, 49, 55, 60, 90)),
    NOON.replace(hour=11, minute=10, second=0) - MICROSECOND, NOON.replace(hour=11, minute=10, second=0),
    NOON.replace(minute=51, hour=11, second=0) - MICROSECOND, NOON.replace(minute=51, hour=11, second=0),
    MIDNIGHT - MICROSECOND, MIDNIGHT, MIDNIGHT + timedelta(seconds=7), MIDNIGHT + LAG, MIDNIGHT - 5 * DAY,
    MIDNIGHT - 27 * DAY, MIDNIGHT - 28 * DAY, MIDNIGHT - 28 * DAY - MICROSECOND, NOON + MINUTE, NOON + DAY,
]  # fmt: skip

Known = dict[str, Any]


@st.composite
def histories(draw: st.DrawFn, cards: int = 12) -> list[Transaction]:
    """Transactions of a few cards, in any order, with all that can be unknown."""
    return [
        transaction(
            f"c{draw(st.integers(0, cards - 1))}",
            draw(st.sampled_from(MOMENTS)),
            draw(st.sampled_from(["0.00", "0.01", "19.99", "250.00", "1234567890.12"])),
            draw(st.sampled_from(["payment", "payment", "payment", "refund", "reversal"])),
            draw(st.sampled_from(["m1", "m2", "m3"])),
            draw(st.sampled_from(["DE", "FR", "it's", None])),
            draw(st.sampled_from(["EUR", "EUR", "JPY"])),
            channel=draw(st.sampled_from(["chip", "online", "online", "recurring", None])),
            device=draw(st.sampled_from(["d1", "d2", "é", None])),
        )
        for _ in range(draw(st.integers(60, 120)))
    ]


def write_transactions(lakehouse: LakehouseResource, transactions: Sequence[Transaction], first: int = 0) -> None:
    """Appends to silver.transactions; ids count from t<first> on."""
    table = create_table(lakehouse.table_uri(TRANSACTIONS.name), TRANSACTIONS)
    write_deltalake(table, transactions_table(transactions, first), mode="append")


def write_gold(lakehouse: LakehouseResource, transactions: Sequence[Transaction]) -> None:
    """Replaces the three tables of cards by what these transactions come to, by the streams' rules."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("events", transactions_table(transactions))
        for stream in (card_days.STREAM, spend_by_card.STREAM, velocity.STREAM):
            schema = build_arrow_schema(stream.main_table)
            rows = connection.sql(stream.rule or "").to_arrow_table().select(schema.names).cast(schema)
            table = create_table(lakehouse.table_uri(stream.main_table.name), stream.main_table)
            write_deltalake(table, rows, mode="overwrite")


def know_card(transactions: Iterable[Transaction], card: str, as_of: datetime) -> Known | None:
    """The row of gold.card_features but for its times, with unknown columns left out; None for no row."""
    paid = [t for t in transactions if t["card_id"] == card and t["kind"] == "payment" and t["event_time"] < as_of]
    today = as_of.replace(hour=0, minute=0, second=0, microsecond=0)
    before = [t for t in paid if today - 28 * DAY <= t["event_time"] < today]
    minutes = [t for t in paid if t["event_time"] >= _floor(as_of, MINUTE) - 9 * MINUTE]
    hour = [t for t in paid if t["event_time"] >= _floor(as_of, 10 * MINUTE) - 50 * MINUTE]
    known: Known = {}
    if before:
        known["known_days"] = len({t["event_time"].date() for t in before})
        known["usual_amounts"] = _average(before)
        known["countries"] = sorted({t["country"] for t in before} - {None})
        online = [t for t in before if t["channel"] in ("online", "recurring")]
        known["devices"] = sorted({t["device"] for t in online} - {None})
    if len(minutes) >= 2:
        known["recent_payments"] = len(minutes)
        known["recent_countries"] = len({t["country"] for t in minutes} - {None})
        known["recent_merchants"] = len({t["merchant_id"] for t in minutes})
    if hour:
        known["hour_payments"] = len(hour)
        known["hour_mean_amounts"] = _average(hour)
        known["hour_amounts"] = {name: float(sum(found)) for name, found in _by_currency(hour).items()}
    return {name: value for name, value in known.items() if value != []} or None


def expect_features(
    paid: Transaction, known: Known | None, reported: Mapping[str | None, int] | None = None
) -> dict[str, Any]:
    """The features of a transaction, by their names; `reported`: how many reported cards each device has."""
    known, amount, currency = known or {}, float(paid["amount"]), paid["currency"]
    usual = known.get("usual_amounts", {}).get(currency)
    is_online = paid["channel"] in ("online", "recurring")
    counts = ("recent_payments", "recent_countries", "recent_merchants", "hour_payments", "known_days")
    return {
        "ln_amount": _ln_ratio(amount, 1.0),
        "amount_to_usual": _ln_ratio(amount, usual),
        "refund_to_usual": _ln_ratio(amount, usual) if paid["kind"] == "refund" else None,
        "amount_to_hour": _ln_ratio(amount, known.get("hour_mean_amounts", {}).get(currency)),
        "country_is_new": _is_new(paid["country"], known.get("countries")),
        "device_is_new": _is_new(paid["device"], known.get("devices")) if is_online else None,
        "device_fraud_cards": float((reported or {}).get(paid["device"], 0)) if is_online and paid["device"] else None,
        "hour_amount_to_usual": _ln_ratio(known.get("hour_amounts", {}).get(currency), usual),
        "hour_of_day": float(paid["event_time"].hour),
        **{name: float(known[name]) if name in known else None for name in counts},
        **{name: paid[name] for name in ("kind", "channel", "merchant_category", "currency", "country")},
    }


def assert_same_features(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Equal but for the last digits of a logarithm."""
    for name, value in expected.items():
        if isinstance(value, float):
            assert found[name] is not None, (name, found)
            assert math.isclose(found[name], value, rel_tol=1e-12, abs_tol=1e-12), (name, found)
        else:
            assert found[name] == value, (name, found)


def _floor(moment: datetime, step: timedelta) -> datetime:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return moment - (moment - epoch) % step


def _by_currency(paid: Iterable[Transaction]) -> dict[str, list[Decimal]]:
    found = defaultdict(list)
    for each in paid:
        found[each["currency"]].append(each["amount"])
    return dict(found)


def _average(paid: Iterable[Transaction]) -> dict[str, float]:
    return {name: float(sum(found)) / len(found) for name, found in _by_currency(paid).items()}


def _ln_ratio(part: float | None, whole: float | None) -> float | None:
    return math.log(part / whole) if part and whole else None


def _is_new(value: str | None, known: list[str] | None) -> float | None:
    return None if value is None or known is None else float(value not in known)
