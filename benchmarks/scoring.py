"""Measures the time from a payment that is sent to its alert that a consumer has, at several rates, in one run.

    real-time     the relay score_payments as it ships
    micro-batch   the same query, in batches as short as they get (HEADRACE_REAL_TIME=false)
    plain         a Python process with confluent-kafka and the scikit-learn model (benchmarks.plain_scorer)

One payment in about ten becomes an alert. What is known of 20,000 cards is joined by the first two, and is brought up
to date in the meantime; the third does without. CPU-seconds are those of the scorer: driver, JVM and workers, or the
process. Batches of the relay last for `--batch-seconds`; between two of them nothing is scored for some hundred
milliseconds, which the percentiles show: `--seconds` is to be a multiple of it. All rates of a mode are measured in one
application, the first after `--warm-up`. Run: `make bench ARGS=scoring` (about 40 minutes on two cores).
"""

from __future__ import annotations

import argparse
import contextlib
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
from deltalake import write_deltalake

from benchmarks.live_application import end_process, exit_on_sigterm
from benchmarks.payment_load import CARDS
from benchmarks.spark_usage import spark_cpu_seconds
from jobs.supervision.stream_context import build_stream_context
from platform_assets.fraud.features import FEATURES
from platform_assets.fraud.scoring import FraudScoring
from platform_assets.fraud.training import TrainedModel, fit
from platform_assets.relays.score_payments import RELAY
from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table
from platform_assets.streaming.engine.relay_group import RelayGroup
from platform_assets.streams.card_days import CARD_DAYS
from platform_assets.tables.fraud import FRAUD_CHAMPIONS, FRAUD_MODELS
from platform_assets.tables.spec import TableSpec
from resources.embedded.broker import running_broker
from resources.kafka import KafkaResource
from resources.kafka_topics import ensure_topic
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from resources.spark.session import SparkResource

MODES = ("real-time", "micro-batch", "plain")
# A JVM that begins under 5,000/s has 20 seconds of records waiting, and takes a minute to catch up. Two batches later
# the pause between two is still longer than after an hour of them.
WARM_UP_SECONDS = 240.0
# What one rate has left behind is through, and the next one's consumer has found its partition.
_SETTLE_SECONDS = 10.0
_ROWS = 20_000
_ALERTS = 0.1
# What each card has paid by each of three payments on the day before.
_USUAL_AMOUNT = 40
_TEXTS = {
    "merchant_category": ["grocery", "fuel", "restaurant", "electronics", "fashion", "travel", "cash"],
    "channel": ["chip", "contactless", "online", "recurring"],
    "country": ["DE", "FR", "PL", "US"], "currency": ["EUR", "USD"], "kind": ["payment", "refund"],
}  # fmt: skip


def main() -> None:
    """Measures each rate in each mode and prints one line for both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", type=int, nargs="+", default=[5_000, 500])
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--seconds", type=float, default=240.0)
    parser.add_argument("--warm-up", type=float, default=WARM_UP_SECONDS)
    parser.add_argument("--partitions", type=int, default=1)
    parser.add_argument("--batch-seconds", type=float, default=120.0)
    args = parser.parse_args()
    exit_on_sigterm()
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        settings = Settings(
            home=Path(folder), kafka_bootstrap_servers="", real_time_batch_seconds=args.batch_seconds,
            spark_master=f"local[{max(4, args.partitions + 1)}]",
        )  # fmt: skip
        trained = _train()
        with running_broker(settings), KafkaResource.from_settings(settings) as kafka:
            for mode in args.modes:
                _measure_mode(settings, kafka, trained, mode, args)


def _train() -> TrainedModel:
    """A model of all features, whose threshold makes about one payment in ten an alert."""
    rng = np.random.default_rng(3)
    is_fraud = rng.random(_ROWS) < 0.1
    began = datetime(2026, 1, 1, tzinfo=UTC)
    columns: dict[str, Any] = {
        "transaction_id": [str(place) for place in range(_ROWS)],
        "event_time": pa.array([began + timedelta(minutes=place) for place in range(_ROWS)], pa.timestamp("us", "UTC")),
        "label": is_fraud,
    }
    for each in FEATURES:
        if each.kind == "category":
            columns[each.name] = rng.choice(_TEXTS[each.name], _ROWS)
        else:
            columns[each.name] = np.where(is_fraud, 0.8, 0.0) + rng.normal(3.0, 1.2, _ROWS)
    kinds = {each.name: each.kind for each in FEATURES}
    mature = began + timedelta(minutes=_ROWS)
    trained = fit(pa.table(columns), kinds, mature, 0.5, 1, datetime.now(UTC))
    return replace(trained, scorecard=replace(trained.scorecard, threshold=_find_threshold(trained, is_known=True)))


def _find_threshold(trained: TrainedModel, is_known: bool) -> float:
    """Finds it by payments as they are sent, with what `_fill` tells of their cards or, unless `is_known`, nothing."""
    rng = np.random.default_rng(4)
    count = 5_000
    rows: dict[str, Any] = {
        each.name: pa.nulls(count, pa.string() if each.kind == "category" else pa.float64()) for each in FEATURES
    }
    amounts, channels = rng.normal(3.5, 1.2, count), rng.choice(_TEXTS["channel"], count)
    countries = rng.choice(["DE", "FR", "PL"], count)
    if is_known:
        rows |= {
            "amount_to_usual": amounts - np.log(_USUAL_AMOUNT), "known_days": np.ones(count),
            "country_is_new": (countries != "DE").astype(float),
            "hour_of_day": np.full(count, float(datetime.now(UTC).hour)),
            "device_is_new": pa.array(np.ones(count), mask=~np.isin(channels, ["online", "recurring"])),
        }  # fmt: skip
    rows |= {
        "ln_amount": amounts, "country": countries, "channel": channels,
        "merchant_category": rng.choice(_TEXTS["merchant_category"], count), "currency": ["EUR"] * count,
        "kind": ["payment"] * count,
    }  # fmt: skip
    return float(np.quantile(trained.scorecard.score(pa.table(rows)), 1 - _ALERTS))


def _measure_mode(
    settings: Settings, kafka: KafkaResource, trained: TrainedModel, mode: str, args: argparse.Namespace
) -> None:
    source, scores, alerts = topics = tuple(f"{mode}-{name}" for name in ("payments", "scores", "alerts"))
    for name in topics:
        ensure_topic(kafka, name, args.partitions)
    scorer = _plain if mode == "plain" else _relay
    home = settings.model_copy(update={"home": settings.home / mode, "real_time": mode == "real-time"})
    home = home.model_copy(update={"lakehouse": str(home.home / "lakehouse")})
    with scorer(home, kafka, trained, (source, scores, alerts)) as measure_cpu:
        for place, rate in enumerate(args.rates):
            output = settings.home / f"{mode}-{rate}.npy"
            with (
                _running("send", kafka.servers(), source, "--rate", str(rate)),
                _running("receive", kafka.servers(), alerts, "--output", str(output)),
            ):
                time.sleep(_SETTLE_SECONDS if place else args.warm_up)
                began, cpu = time.time_ns(), measure_cpu()
                time.sleep(args.seconds)
                ended, cpu = time.time_ns(), measure_cpu() - cpu
                time.sleep(5.0)
            sent, came = np.load(output).T
            chosen = (sent >= began) & (sent < ended)
            _print(mode, rate, sent[chosen] - began, (came - sent)[chosen] / 1e6, cpu / (rate * args.seconds))


def _print(mode: str, rate: int, sent: Any, milliseconds: Any, cpu_seconds: float) -> None:
    """`sent` in nanoseconds since the measuring began, `cpu_seconds` a payment."""
    p50, p99, p999 = np.percentile(milliseconds, [50, 99, 99.9])
    slow = np.unique(sent[milliseconds >= p99] // 1_000_000_000)
    print(
        f"{mode:>11} {rate:>6,}/s: p50 {p50:,.1f} ms, p99 {p99:,.1f} ms, p99.9 {p999:,.1f} ms, "
        f"most {milliseconds.max():,.1f} ms over {len(milliseconds):,} alerts, the slowest 1 % of {len(slow)} seconds; "
        f"{cpu_seconds * 1e6:,.0f} CPU-s a million",
        flush=True,
    )


@contextlib.contextmanager
def _relay(
    settings: Settings, kafka: KafkaResource, trained: TrainedModel, topics: tuple[str, str, str]
) -> Iterator[Any]:
    lakehouse = LakehouseResource.from_settings(settings)
    lakehouse.check_writable()
    _fill(lakehouse, trained)
    source, scores, alerts = topics
    relay = replace(
        RELAY, source=replace(RELAY.source, kafka_topic=source), outputs=(scores, alerts),
        open=lambda context: FraudScoring(context, scores, alerts),
    )  # fmt: skip
    context = build_stream_context(settings, kafka, lakehouse, (), (relay,))
    with SparkResource.from_settings(settings, "benchmark").running() as session:
        group = RelayGroup(session, [relay], context)
        group.start()
        try:
            yield spark_cpu_seconds
            if (failure := group.failure()) is not None:
                raise failure
        finally:
            group.stop(30)


@contextlib.contextmanager
def _plain(
    settings: Settings, kafka: KafkaResource, trained: TrainedModel, topics: tuple[str, str, str]
) -> Iterator[Any]:
    settings.home.mkdir(parents=True)
    model, card = settings.home / "model.pickle", trained.scorecard
    # It knows nothing of cards, and would take each payment for fraud by the others' threshold.
    threshold = _find_threshold(trained, is_known=False)
    model.write_bytes(pickle.dumps((trained.classifier, trained.cuts, threshold, card.slope, card.intercept)))
    command = [sys.executable, "-m", "benchmarks.plain_scorer", kafka.servers(), *topics, str(model)]
    process = subprocess.Popen(command)
    watched = psutil.Process(process.pid)
    try:
        yield lambda: sum(watched.cpu_times()[:2])
    finally:
        end_process(process, 20)


@contextlib.contextmanager
def _running(*options: str) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.payment_load", *options])
    try:
        yield
    finally:
        end_process(process, 30)


def _fill(lakehouse: LakehouseResource, trained: TrainedModel) -> None:
    """What is known of cards, and the model as the champion."""
    card, now = trained.scorecard, datetime.now(UTC)
    day = datetime(now.year, now.month, now.day, tzinfo=UTC) - timedelta(days=1)
    days = {
        "window_start": day, "window_end": day + timedelta(days=1), "currency": "EUR", "payment_count": 3,
        "total_amount": 3 * _USUAL_AMOUNT, "countries": ["DE"], "devices": [],
    }  # fmt: skip
    _write(lakehouse, CARD_DAYS, [days | {"card_id": f"card-{number:07d}"} for number in range(CARDS)])
    model = {
        "version": 1, "trained_at": now, "data_from": now, "data_until": now, "rows": _ROWS, "metrics": "{}",
        "scorecard": card.to_json(), "verdict": "promoted",
    }  # fmt: skip
    champion = {"changed_at": now, "action": "promote", "champion": 1, "threshold": card.threshold}
    champion |= {"by": "a benchmark", "reason": ""}
    _write(lakehouse, FRAUD_MODELS, [model])
    _write(lakehouse, FRAUD_CHAMPIONS, [champion])


def _write(lakehouse: LakehouseResource, spec: TableSpec, rows: list[Mapping[str, Any]]) -> None:
    uri = lakehouse.table_uri(spec.name)
    create_table(uri, spec, lakehouse.storage_options())
    write_deltalake(uri, pa.Table.from_pylist([dict(row) for row in rows], build_arrow_schema(spec)), mode="append")


if __name__ == "__main__":
    main()
