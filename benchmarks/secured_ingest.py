"""What TLS and a log-in cost: the same records written and read by the platform's clients, with and without them.

One broker has a listener without encryption, one with SASL_SSL (SCRAM-SHA-512) and one with mutual TLS; passes over
them take turns. Each pass writes all records as the simulator does and reads them as the stream `events` does
(`RangeReader`), in a process of its own; CPU-seconds are those of that process and of the broker's. Parsing and Delta
have no part in it: set the difference against what `ingest` says of the whole way. Run: `make bench
ARGS=secured_ingest` (some five minutes).
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
import uuid
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import psutil
from confluent_kafka.admin import NewTopic

from resources.kafka import KafkaResource
from resources.range_reader import RangeReader
from resources.settings import Settings
from tests.secured_broker import ADMIN, SecuredBroker, topic_rights
from tests.token_endpoint import serving_tokens

# As large as the shop's events are, and packed as well as those.
_DISTINCT = 20_000


def build_records(count: int) -> list[bytes]:
    """Events of a shop, 350 bytes each."""
    rng = random.Random(1)
    names = [f"Product {n} {rng.getrandbits(40):x}" for n in range(500)]

    def build() -> bytes:
        event = {
            "event_id": str(uuid.UUID(int=rng.getrandbits(128))), "event_type": rng.choice(["page_view", "purchase"]),
            "timestamp": "2026-11-29T12:00:00.123456Z", "user_id": f"user_{rng.randrange(100_000)}",
            "product_id": f"prod_{rng.randrange(500)}", "product_name": rng.choice(names), "category": "Electronics",
            "price": rng.randrange(1, 90_000) / 100, "quantity": rng.randrange(1, 4),
            "session_id": f"{rng.getrandbits(64):x}", "device_type": "mobile", "country": "DE",
        }  # fmt: skip
        return json.dumps(event).encode()

    return [build() for _ in range(count)]


def run_pass(settings: Settings, topic: str, count: int) -> dict[str, float]:
    """CPU-seconds of this process for writing and for reading; runs in a process of its own."""
    distinct = build_records(min(count, _DISTINCT))
    found = {}
    with KafkaResource.from_settings(settings) as kafka:
        began = time.process_time()
        producer = kafka.producer(linger_ms=50)
        start = kafka.end_offsets(topic)[0]
        for number in range(count):
            if number % 10_000 == 0:
                producer.flush(60)
            producer.produce(topic, distinct[number % len(distinct)])
        assert producer.flush(60) == 0
        found["write"] = time.process_time() - began
        began = time.process_time()
        read = sum(len(batch) for batch in RangeReader(kafka.client_config())(topic, [(0, start, start + count)]))
        found["read"] = time.process_time() - began
        assert read == count, (read, count)
    return found


def main() -> None:
    """Prints CPU-seconds per million records for each listener, and the ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=500_000)
    parser.add_argument("--passes", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, serving_tokens() as tokens:
        broker = SecuredBroker.make(Path(folder), tokens, is_open=True)
        broker.start()
        try:
            measure(broker, Path(folder), options.records, options.passes)
        finally:
            broker.stop()


def measure(broker: SecuredBroker, folder: Path, records: int, passes: int) -> None:
    """The passes, the first of each listener to warm up, and the table."""
    topic = "secured-ingest"
    broker.admin().create_topics([NewTopic(topic, 1, 1)])[topic].result(30)
    account = broker.add_account("reader")
    broker.grant(*topic_rights("reader", topic, "READ", "WRITE"))
    ways = {
        "no encryption": Settings(home=folder, kafka_bootstrap_servers=broker.plain),
        "SASL_SSL, SCRAM": broker.settings(folder, account),
        "mutual TLS": broker.settings(folder, broker.options_of_certificate(ADMIN)),
    }
    found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    assert broker.process is not None
    server = psutil.Process(broker.process.pid)
    for _ in range(passes + 1):
        for way, settings in ways.items():
            before = sum(server.cpu_times()[:2])
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                used = pool.submit(run_pass, settings, topic, records).result()
            used["broker"] = sum(server.cpu_times()[:2]) - before
            found[way].append({part: seconds * 1e6 / records for part, seconds in used.items()})
    print(f"{'CPU-s per million records':28}" + "".join(f"{part:>9}" for part in ("write", "read", "broker")))
    base = None
    for way, each in found.items():
        medians = {part: statistics.median(one[part] for one in each[1:]) for part in ("write", "read", "broker")}
        base = base or medians
        shown = "".join(f"{medians[part]:9.2f}" for part in medians)
        ratios = ", ".join(f"{part} {medians[part] / base[part]:.2f}" for part in medians)
        print(f"{way:28}{shown}   ratio: {ratios}")


if __name__ == "__main__":
    main()
