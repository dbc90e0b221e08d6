"""What the relay is compared with: a Python process that scores payments, as one writes it with the usual libraries.

confluent-kafka, and the scikit-learn model of the same scorecard on up to 500 records at a time. It knows nothing of
cards, keeps no ledger, and is not supervised. Run by `benchmarks.scoring`.
"""

from __future__ import annotations

import argparse
import json
import math
import pickle
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np

_AT_ONCE = 500


def score_until(stop: threading.Event, servers: str, source: str, scores: str, alerts: str, model: Path) -> None:
    """Scores each payment of the topic from now on; its score, and its alert, go to the other topics."""
    from confluent_kafka import Consumer, Producer

    classifier, cuts, threshold, slope, intercept = pickle.loads(model.read_bytes())
    consumer = Consumer(
        {"bootstrap.servers": servers, "group.id": "plain", "auto.offset.reset": "latest", "enable.auto.commit": True}
    )  # fmt: skip
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 0, "enable.idempotence": True})
    consumer.subscribe([source])
    while not stop.is_set():
        # Of several it would wait for all until the time is over.
        messages = consumer.consume(1, 0.1)
        messages += consumer.consume(_AT_ONCE - 1, 0) if messages else []
        if not (payments := [json.loads(each.value() or b"") for each in messages if each.error() is None]):
            continue
        raw = classifier.decision_function(np.column_stack([_steps(each, payments) for each in cuts]))
        found = 1 / (1 + np.exp(-(slope * raw + intercept)))
        for payment, score in zip(payments, found.tolist(), strict=True):
            value = json.dumps({"score_id": payment["transaction_id"], "score": score, **payment}).encode()
            producer.produce(scores, value=value, key=payment["card_id"])
            if score >= threshold:
                producer.produce(alerts, value=value, key=payment["card_id"])
        producer.poll(0)
    producer.flush(10)
    consumer.close()


def _steps(cuts: Any, payments: list[dict[str, Any]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """A feature's column, as the classifier was trained with it; what is not known here is missing."""
    if cuts.kind == "category":
        return np.array([cuts.steps.get(each.get(cuts.feature), math.nan) for each in payments], np.float64)
    if cuts.feature == "ln_amount":
        amounts = np.log(np.array([each["amount"] for each in payments]))
        return np.searchsorted(np.array(cuts.thresholds), amounts, side="left").astype(np.float64)
    return np.full(len(payments), np.nan)


def main() -> None:
    """Runs until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("servers", "source", "scores", "alerts"):
        parser.add_argument(name)
    parser.add_argument("model", type=Path)
    args = parser.parse_args()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    score_until(stop, args.servers, args.source, args.scores, args.alerts, args.model)


if __name__ == "__main__":
    main()
