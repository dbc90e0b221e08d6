"""The job `simulate_shop`: a simulated topic under Dagster's eyes, for a demonstration or a load test."""

# No postponed annotations in this file: Dagster reads those of ops at definition time.
import math
import secrets
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from resources.kafka import KafkaResource
from resources.kafka_topics import ensure_topic
from resources.settings import load_settings

if TYPE_CHECKING:
    from jobs.simulator.simulation import SimulationPlan

# One line in the run's log per this many seconds: each is an event of several kilobytes in Dagster's storage.
_LOG_SECONDS = 60.0


class SimulateShopConfig(dg.Config):
    """What is simulated, and how; the same settings as `headrace simulate`."""

    rate: float | None = Field(default=None, description="Records a second (default: 100; history: 2); 0: no limit")
    duration_seconds: float | None = Field(default=None, description="End after this many seconds; live only")
    count: int | None = Field(default=None, description="End after this many records; with hours: about as many in all")
    hours: float | None = Field(default=None, description="Send a history of this many hours that ends now")
    speed: float | None = Field(default=None, description="Pace of a history; unset: as fast as possible")
    seed: int | None = Field(default=None, description="The same seed gives the same shoppers")
    topic: str = Field(default="", description="transactions: card payments; else the shop's topic (HEADRACE_TOPIC)")
    kafka_topic: str = Field(default="", description="The topic on the broker, where it is not the usual one")
    habits: dict[str, float] = Field(default={}, description="Any field of the profile, such as late or duplicates")
    malformed: list[str] = Field(default=[], description="RATE, or REASON=RATE, as in --malformed")
    transactional: bool = Field(default=False, description="Send in Kafka's transactions of a second")
    aborted: float = Field(default=0.0, ge=0, le=1, description="Share of them that is aborted and sent again")


def _plan(config: SimulateShopConfig) -> "SimulationPlan":
    from jobs.simulator.simulated_topics import find_simulation
    from jobs.simulator.simulation import SimulationPlan, parse_malformed

    simulation = find_simulation(config.topic)
    habits = {name: simulation.read_habit(name, value) for name, value in config.habits.items()}
    return SimulationPlan(
        profile=parse_malformed(simulation.profile().with_rates(habits), config.malformed),
        seed=secrets.randbelow(2**31) if config.seed is None else config.seed,
        rate=math.inf if config.rate == 0 else config.rate,
        hours=config.hours,
        duration_seconds=config.duration_seconds,
        count=config.count,
        speed=config.speed,
    )


@dg.op(description="Sends the simulated records to Kafka until their end or until the run is terminated.")
def send_shop_events(context: dg.OpExecutionContext, config: SimulateShopConfig, kafka: KafkaResource) -> None:
    """Ends cleanly on Terminate: the records in hand are delivered and counted, then the run reads as canceled.

    Raises `UsageError` for a bad configuration, `BrokerUnavailableError` when records were not acknowledged.
    """
    from jobs.simulator.producer import PRODUCER_OPTIONS, send_records
    from jobs.simulator.simulated_topics import SHOP
    from jobs.simulator.transactions import transactional_options
    from resources.stop_signals import StopSignals

    settings, plan = load_settings(), _plan(config)
    is_shop = plan.simulation is SHOP
    counted = "shop" if is_shop else config.topic
    topic = config.kafka_topic or (is_shop and config.topic) or plan.simulation.find_topic(settings)
    simulated = plan.open()
    options = PRODUCER_OPTIONS | (transactional_options(topic) if config.transactional else {})
    next_line = _LOG_SECONDS

    with StopSignals() as stop:
        ensure_topic(kafka, topic, settings.topic_partitions)
        companion = plan.simulation.find_companion(kafka, topic, settings.topic_partitions, context.log.warning)
        context.log.info(f"Sending to {topic}, seed {plan.seed}, {plan.total or 'endless'} records expected.")

        def log_progress(sent: int, acknowledged: int, seconds: float) -> None:
            nonlocal next_line
            if seconds >= next_line:
                next_line = seconds + _LOG_SECONDS
                context.log.info(f"{sent:,} records sent, {acknowledged:,} acknowledged, {sent / seconds:,.0f}/s.")

        report = send_records(
            plan.records(simulated, companion),
            kafka.producer(**options),
            topic,
            pace=plan.pace,
            stop=stop.received,
            on_progress=log_progress,
            is_transactional=config.transactional,
            aborted_share=config.aborted if config.transactional else 0.0,
        )
    context.log.info(f"{report.acknowledged:,} of {report.sent:,} records acknowledged in {report.seconds:.1f} s.")
    context.add_output_metadata(
        {
            "kafka/topic": topic,
            "kafka/acknowledged": report.acknowledged,
            "kafka/failed": report.failed,
            "records_per_second": report.rate,
            "seconds": report.seconds,
            "seed": plan.seed,
            **{f"{counted}/{name}": count for name, count in simulated.counts.items()},
        }
    )
    report.raise_if_failed()
    if report.stopped:
        raise dg.DagsterExecutionInterruptedError


@dg.job(
    executor_def=dg.in_process_executor,
    description="A simulated shop, or another simulated topic: seeded records into Kafka.",
)
def simulate_shop() -> None:
    """Launched by a person or a demonstration; never by a schedule."""
    send_shop_events()
