"""Sends payments at a steady rate, or takes alerts: a process of its own each, so that neither waits for the other.

Run by `benchmarks.scoring`: `python -m benchmarks.payment_load send|receive SERVERS TOPIC ...`. A payment's id begins
with the nanosecond at which it was handed to the producer; an alert's latency is the time at which a consumer has it
less that.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import threading
import time
from pathlib import Path

import numpy as np

CARDS = 20_000
# A sender that slept for longer would send in bursts, whose last records wait for the first.
_PAUSE_SECONDS = 0.001
_CATEGORIES = ("grocery", "fuel", "restaurant", "electronics", "fashion", "travel", "cash")
_CHANNELS = ("chip", "contactless", "online", "recurring")


def make_payment(rng: random.Random, sent_at_nanos: int) -> bytes:
    """A payment of any card, with all fields."""
    payment = {
        "transaction_id": f"{sent_at_nanos}-{rng.getrandbits(32):08x}", "kind": "payment",
        "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(sent_at_nanos / 1e9)),
        "card_id": f"card-{rng.randrange(CARDS):07d}", "customer_id": f"customer-{rng.randrange(CARDS):07d}",
        "merchant_id": f"merchant-{rng.randrange(2000):05d}", "merchant_category": rng.choice(_CATEGORIES),
        "amount": round(rng.lognormvariate(3.5, 1.2), 2), "currency": "EUR", "country": rng.choice(("DE", "FR", "PL")),
        "channel": rng.choice(_CHANNELS), "device": f"{rng.getrandbits(64):016x}",
    }  # fmt: skip
    return json.dumps(payment).encode()


def send(servers: str, topic: str, rate: float, stop: threading.Event) -> None:
    """Sends until told to stop; a card's payments stay in one partition."""
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": servers, "linger.ms": 0, "enable.idempotence": True})
    rng, began, sent = random.Random(1), time.monotonic(), 0
    while not stop.is_set():
        for _ in range(int((time.monotonic() - began) * rate) - sent):
            value = make_payment(rng, time.time_ns())
            producer.produce(topic, value=value, key=value[60:80])
            sent += 1
        producer.poll(0)
        stop.wait(_PAUSE_SECONDS)
    producer.flush(30)


def receive(servers: str, topic: str, output: Path, stop: threading.Event) -> None:
    """Takes alerts until told to stop; writes for each when its payment was sent and when it came, in nanoseconds."""
    from confluent_kafka import OFFSET_END, Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": servers, "group.id": "bench", "enable.auto.commit": False})
    # Not by subscription: to join a group, a broker that has just started first makes the topic of all groups' offsets.
    partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
    consumer.assign([TopicPartition(topic, partition, OFFSET_END) for partition in partitions])
    found: list[tuple[int, int]] = []
    while not stop.is_set():
        # One at a time: `consume` of several waits for all of them until its time is over, and that would be measured.
        if (message := consumer.poll(0.1)) is not None and message.error() is None:
            now = time.time_ns()
            found.append((int(json.loads(message.value() or b"")["score_id"].partition("-")[0]), now))
    consumer.close()
    np.save(output, np.array(found, np.int64).reshape(-1, 2))


def main() -> None:
    """Runs until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("send", "receive"))
    parser.add_argument("servers")
    parser.add_argument("topic")
    parser.add_argument("--rate", type=float, default=500.0)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    if args.what == "send":
        send(args.servers, args.topic, args.rate, stop)
    else:
        receive(args.servers, args.topic, args.output, stop)


if __name__ == "__main__":
    main()
