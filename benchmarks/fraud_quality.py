"""Measures how well the fraud model finds planted fraud, next to one without devices and to rules written by hand.

Two histories of simulated payments, of other cards and customers: of the one the model is trained as the asset
`fraud_model` does, with what was reported until its end; of the other it scores what came after the first 28 days, and
is judged by the simulation's truth. The model is trained twice on the same rows: with all features, and without the one
that counts reported cards of the payment's device. Tables are written straight from the simulated records, without
Kafka; the table `gold.card_days` by its stream's rule. Run: `make bench ARGS=fraud_quality` (about three minutes on two
cores).
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import write_deltalake

from jobs.simulator.card_payments import CardPayments
from jobs.simulator.payment_profile import PaymentProfile
from jobs.simulator.simulated_topic import CompanionRecord
from platform_assets.fraud.hand_rules import score_by_rules
from platform_assets.fraud.model_training import KINDS
from platform_assets.fraud.quality import draw_curve
from platform_assets.fraud.training import fit
from platform_assets.fraud.training_rows import LABEL_DELAY, read_training_rows
from platform_assets.streaming.delta.delta_tables import build_arrow_schema
from platform_assets.streams import card_days
from platform_assets.tables.spec import TableSpec
from platform_assets.topics.fraud_reports import FRAUD_REPORTS
from platform_assets.topics.transactions import TRANSACTIONS
from resources.duckdb import DuckDBResource
from resources.lakehouse import LakehouseResource

REPORTS = "reports"
_RECALLS = (0.5, 0.7, 0.8, 0.9)
_LEFT_OUT = "device_fraud_cards"
_PROFILE = timedelta(days=28)
_MICROS = 1_000_000


def main() -> None:
    """Trains on one seed, scores another, and prints precision at fixed recalls."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=56)
    parser.add_argument("--rate", type=float, default=0.05, help="payments a second")
    parser.add_argument("--customers", type=int, default=2_000)
    parser.add_argument("--fraud", type=float, default=0.01)
    parser.add_argument(
        "--other-devices", type=float, default=0.05, help="days on which a card pays online with a device of that day"
    )
    parser.add_argument("--ring-devices", type=int, default=5, help="devices that are used for many stolen cards")
    parser.add_argument("--seeds", type=int, nargs=2, default=[1, 2])
    args = parser.parse_args()
    end = datetime(2026, 11, 1, tzinfo=UTC)
    profile = PaymentProfile(
        customers=args.customers,
        fraud=args.fraud,
        other_devices=args.other_devices,
        ring_devices=args.ring_devices,
        duplicates=0.0,
    ).with_malformed(0.0)
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        trained, unseen = (_read_history(Path(folder), seed, profile, args, end) for seed in args.seeds)
        began = time.perf_counter()
        model = fit(trained, KINDS, end - LABEL_DELAY, 0.5, 1, datetime.now(UTC))
        seconds = time.perf_counter() - began
        without = {name: kind for name, kind in KINDS.items() if name != _LEFT_OUT}
        plain = fit(trained, without, end - LABEL_DELAY, 0.5, 1, datetime.now(UTC))
    known = pc.greater(unseen["event_time"], pa.scalar(end - timedelta(days=args.days) + _PROFILE))
    rows = unseen.filter(known)
    truth = np.asarray(rows["is_fraud"].to_numpy(zero_copy_only=False), np.bool_)
    print(f"Trained on {len(trained):,} rows in {seconds:.1f} s.")
    print(f"Measured on {len(rows):,} payments of another seed, {truth.sum():,} of them fraud.")
    for name, fitted in (("model", model), (f"without {_LEFT_OUT}", plain)):
        scores = fitted.scorecard.score(rows)
        _print_curve(name, scores, truth)
        alerts = scores >= fitted.scorecard.threshold
        said = f"{truth[alerts].mean():.1%} of them fraud, {alerts[truth].mean():.1%} of the fraud"
        print(f"    {alerts.sum():,} alerts, {said}")
    _print_curve("hand rules", score_by_rules(rows), truth)


def _print_curve(name: str, scores: Any, truth: Any) -> None:
    found = ", ".join(f"{_precision_at(scores, truth, recall):.1%} at {recall:.0%}" for recall in _RECALLS)
    average = draw_curve(scores, truth).average_precision
    print(f"{name}: precision {found} recall; average precision {average:.3f}")


def _precision_at(scores: Any, truth: Any, recall: float) -> float:
    """The share of fraud among what must be looked at to find this share of it; ties are looked at together."""
    least = np.sort(scores[truth])[::-1][int(np.ceil(recall * truth.sum())) - 1]
    return float(truth[scores >= least].mean())


def _read_history(
    folder: Path, seed: int, profile: PaymentProfile, args: argparse.Namespace, end: datetime
) -> pa.Table:
    lakehouse = LakehouseResource(root=str(folder / str(seed)))
    first = end - timedelta(days=args.days)
    payments = CardPayments(profile, seed)
    payments.accompany(REPORTS)
    paid: list[dict[str, Any]] = []
    reported: list[dict[str, Any]] = []
    for values, is_report in _simulate(payments, first, end, args.rate):
        (reported if is_report else paid).append(values)
    _write(lakehouse, TRANSACTIONS, paid)
    _write(lakehouse, FRAUD_REPORTS, reported)
    _write_card_days(lakehouse)
    with DuckDBResource(memory_mib=2048).connected() as connection:
        return read_training_rows(lakehouse, connection, end)


def _simulate(
    payments: CardPayments, first: datetime, end: datetime, rate: float
) -> Iterator[tuple[dict[str, Any], bool]]:
    """Rows of the records, and whether each is a report."""
    micros = [int(moment.timestamp()) * _MICROS for moment in (first, end)]
    for record in payments.history(micros[0], micros[1], rate):
        row = json.loads(record[2] or b"", parse_float=Decimal)
        row["event_time"] = datetime.fromisoformat(row.pop("timestamp"))
        yield row | {"event_date": row["event_time"].date()}, isinstance(record, CompanionRecord)


def _write(lakehouse: LakehouseResource, spec: TableSpec, rows: list[dict[str, Any]]) -> None:
    schema = build_arrow_schema(spec)
    names = set(schema.names)
    known = [{name: value for name, value in row.items() if name in names} for row in rows]
    for row in known:
        if "amount" in row:
            row["amount"] = Decimal(str(row["amount"])).quantize(Decimal("0.01"))
    table = pa.Table.from_pylist(known, schema)
    write_deltalake(lakehouse.table_uri(spec.name), table, partition_by=list(spec.partition_columns) or None)


def _write_card_days(lakehouse: LakehouseResource) -> None:
    spec = card_days.STREAM.main_table
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("events", lakehouse.delta_table(TRANSACTIONS.name).to_pyarrow_table())
        names = ", ".join(column.name for column in spec.columns)
        rows = connection.sql(f"SELECT {names} FROM ({card_days.STREAM.rule})").to_arrow_table()
    write_deltalake(lakehouse.table_uri(spec.name), rows.cast(build_arrow_schema(spec)))


if __name__ == "__main__":
    main()
