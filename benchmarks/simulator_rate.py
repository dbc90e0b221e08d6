"""How many records a second a simulated topic (default: the shop) puts into a real broker, and what they cost.

    python benchmarks/simulator_rate.py [--records 1000000] [--runs 3] [--topic transactions]

Starts an embedded broker of its own in a temporary folder, sends live events without a limit of rate, and prints
the median of the runs: acknowledged records a second, CPU seconds of the sender (per million records) and of the
broker. Sender and broker share the machine.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from pathlib import Path

import psutil

from jobs.simulator.producer import PRODUCER_OPTIONS, send_records
from jobs.simulator.simulated_topics import find_simulation
from jobs.simulator.simulation import SimulationPlan
from resources.embedded.broker import EmbeddedBroker
from resources.kafka import KafkaResource
from resources.kafka_topics import ensure_topic
from resources.settings import Settings


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _measure(kafka: KafkaResource, jvm: psutil.Process, records: int, run: int, name: str) -> dict[str, float]:
    topic = f"simulator-rate-{run}"
    ensure_topic(kafka, topic, 3)
    simulation = find_simulation(name)
    if companion := simulation.name_companion(topic):
        ensure_topic(kafka, companion, 3)
    plan = SimulationPlan(simulation.profile(), seed=run, rate=math.inf, count=records)
    producer = kafka.producer(**PRODUCER_OPTIONS)
    before = _cpu_seconds(jvm)
    began, sender = time.perf_counter(), time.process_time()
    # Its start (the catalogue, what is under way) is part of what a user waits for.
    report = send_records(plan.records(plan.open(), companion), producer, topic, pace=plan.pace)
    report.raise_if_failed()
    sender = time.process_time() - sender
    return {
        "records/s": report.acknowledged / (time.perf_counter() - began),
        "sender CPU s per million": sender / records * 1e6,
        "broker CPU s per million": (_cpu_seconds(jvm) - before) / records * 1e6,
    }


def main() -> None:
    """Runs the benchmark and prints one line a figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--topic", default="", help="as in headrace simulate")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder), kafka_bootstrap_servers="")
        with KafkaResource.from_settings(settings) as kafka:
            kafka.servers()
            state = EmbeddedBroker(settings.home).state()
            if state is None:
                raise SystemExit("The broker ended before the first run.")
            jvm = psutil.Process(state.jvm.pid)
            results = [_measure(kafka, jvm, args.records, run, args.topic) for run in range(args.runs)]
    for name in results[0]:
        values = [result[name] for result in results]
        print(f"{name:26} median {statistics.median(values):>12,.1f}   all {', '.join(f'{v:,.1f}' for v in values)}")


if __name__ == "__main__":
    main()
