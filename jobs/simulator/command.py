"""`headrace simulate`: the simulated shop, or a recorded clickstream, into Kafka."""

from __future__ import annotations

import argparse
import math
import secrets
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from jobs.simulator.producer import PRODUCER_OPTIONS, OnWait, Pace, SendReport, send_records
from jobs.simulator.profile import FAULTS, ShopProfile
from jobs.simulator.progress import show_progress
from jobs.simulator.replay_command import (
    REPLAY_OPTIONS,
    add_replay_arguments,
    begin_replay,
    read_recording,
    say_tally,
    say_wait,
)
from jobs.simulator.shop import Record, Shop
from jobs.simulator.simulation import SimulationPlan, parse_malformed
from platform_assets.errors import UsageError

if TYPE_CHECKING:
    from resources.kafka import KafkaResource
    from resources.settings import Settings


def _rate(text: str) -> float:
    return math.inf if text == "max" else float(text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `headrace simulate`. Called by the command line's composition."""
    parser.description = (
        "Sends events of a simulated shop, live or as a history, or replays a recorded clickstream. "
        "Ctrl-C ends it cleanly. More in docs/simulator.md."
    )
    parser.add_argument("--topic", help="topic (default: HEADRACE_TOPIC)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no summary")

    shop = parser.add_argument_group("simulated shop")
    shop.add_argument("--rate", type=_rate, metavar="N", help="records a second, or max (default: 100; history: 2)")
    shop.add_argument("--duration", type=float, metavar="SECONDS", help="end after so long (default: until Ctrl-C)")
    shop.add_argument("--count", type=int, metavar="N", help="end after N records; with --hours: about N in all")
    shop.add_argument("--hours", type=float, metavar="H", help="a history of H hours that ends now, at original times")
    shop.add_argument("--seed", type=int, help="the same seed gives the same shoppers (default: a new one, shown)")
    shop.add_argument("--users", type=int, help=f"customers (default: {ShopProfile.users})")
    shop.add_argument("--products", type=int, help=f"products (default: {ShopProfile.products})")
    shop.add_argument("--late", type=float, metavar="RATE", help=f"late events (default: {ShopProfile.late})")
    shop.add_argument(
        "--duplicates", type=float, metavar="RATE", help=f"records sent twice (default: {ShopProfile.duplicates})"
    )
    shop.add_argument(
        "--malformed",
        action="append",
        default=[],
        metavar="[REASON=]RATE",
        help=f"malformed records, in all or of one reason ({', '.join(FAULTS)}); repeatable "
        f"(default: {ShopProfile.not_json} each, oversized 0)",
    )
    shop.add_argument(
        "--habit",
        action="append",
        default=[],
        metavar="NAME=NUMBER",
        help="any other setting of the shop, such as purchase_rate=0.6; repeatable",
    )

    add_replay_arguments(parser)
    parser.add_argument("--speed", type=float, metavar="X", help="X times as fast as it happened (replay or history)")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Runs the command to its end, or to SIGINT or SIGTERM, after which everything in hand is still delivered.

    Returns 0 when every record is acknowledged, also when stopped. Raises `UsageError` for bad arguments and
    `BrokerUnavailableError` for a broker that is not there or gave up records (after the summary is printed).
    """
    # To stderr: standard output stays free for programs.
    console = Console(stderr=True, quiet=args.quiet)
    if args.replay is not None:
        recording = read_recording(args)

        def begin(kafka: KafkaResource, topic: str) -> Iterator[Record]:
            return begin_replay(recording, settings, kafka, topic, console)

        report = _send(args, settings, console, begin, recording.pace, None, say_wait(recording, console))
        counts = recording.tally.counts()
        say_tally(recording, console)
    else:
        plan = _plan(args)
        console.print(f"Simulated shop, seed {plan.seed}", highlight=False)
        shop = Shop(plan.profile, plan.seed)
        report = _send(args, settings, console, lambda _kafka, _topic: plan.records(shop), plan.pace, plan.total)
        counts = shop.tally.as_dict()
    _print_summary(console, counts, report)
    report.raise_if_failed()
    return 0


def _send(
    args: argparse.Namespace,
    settings: Settings,
    console: Console,
    begin: Callable[[KafkaResource, str], Iterator[Record]],
    pace: Pace,
    total: int | None,
    on_wait: OnWait | None = None,
) -> SendReport:
    # Here, for the resource brings Dagster along, which `--help` can do without.
    from resources.kafka import KafkaResource
    from resources.stop_signals import StopSignals

    topic = args.topic or settings.topic
    with StopSignals() as stop, KafkaResource.from_settings(settings) as kafka:
        kafka.ensure_topic(topic, settings.topic_partitions)
        producer = kafka.producer(**PRODUCER_OPTIONS)
        records = begin(kafka, topic)
        with show_progress(topic, total, console, quiet=args.quiet) as on_progress:
            return send_records(
                records, producer, topic, pace=pace, stop=stop.received, on_progress=on_progress, on_wait=on_wait
            )


def _plan(args: argparse.Namespace) -> SimulationPlan:
    for option in REPLAY_OPTIONS:
        if getattr(args, option) not in (None, [], False):
            name = option.replace("_", "-")
            raise UsageError(f"--{name} is for a recorded clickstream. Give --replay FILE as well.")
    habits = {}
    for text in args.habit:
        name, _, number = text.partition("=")
        try:
            habits[name] = int(number) if name in ("users", "products") else float(number)
        except ValueError:
            raise UsageError(f"habit is {text!r}. Write NAME=NUMBER.") from None
    for name in ("users", "products", "late", "duplicates"):
        if getattr(args, name) is not None:
            habits[name] = getattr(args, name)
    profile = parse_malformed(ShopProfile().with_rates(habits), args.malformed)
    return SimulationPlan(
        profile=profile,
        seed=secrets.randbelow(2**31) if args.seed is None else args.seed,
        rate=args.rate,
        hours=args.hours,
        duration_seconds=args.duration,
        count=args.count,
        speed=args.speed,
    )


def _print_summary(console: Console, counts: dict[str, int], report: SendReport) -> None:
    table = Table(show_header=False, box=None)
    for name, count in counts.items():
        table.add_row(name, f"{count:,}")
    table.add_row("acknowledged", f"{report.acknowledged:,}")
    if report.failed:
        table.add_row("failed", f"{report.failed:,}", style="red")
    table.add_row("seconds", f"{report.seconds:,.1f}")
    table.add_row("records/s", f"{report.rate:,.0f}")
    console.print(table)
    if report.stopped:
        console.print("Stopped on request; everything in hand was delivered." if not report.failed else "Stopped.")
