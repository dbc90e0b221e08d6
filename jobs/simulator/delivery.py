"""Sends a simulated topic or a recorded clickstream into Kafka, with a progress bar and a summary."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from jobs.simulator.producer import PRODUCER_OPTIONS, OnWait, Pace, SendReport, send_records
from jobs.simulator.progress import show_progress
from jobs.simulator.recorded import Recording
from jobs.simulator.recording_delivery import begin_replay, say_tally, say_wait
from jobs.simulator.simulated_topic import Record
from jobs.simulator.simulation import SimulationPlan
from jobs.simulator.transactions import transactional_options
from platform_assets.errors import UsageError
from resources.kafka_topics import ensure_topic

if TYPE_CHECKING:
    from jobs.simulator.framed_values import FramedValues
    from platform_assets.streaming.formats.registered_schema import SchemaTarget
    from resources.kafka import KafkaResource
    from resources.settings import Settings


@dataclass(frozen=True)
class Delivery:
    """Sends records, and tells a person about it on stderr: standard output stays free for programs.

    Each of its methods runs to the end, or to SIGINT or SIGTERM, after which everything in hand is still delivered; on
    the main thread. They raise `BrokerUnavailableError` for a broker that is not there or gave up records (after the
    summary is printed).
    """

    settings: Settings
    topic: str
    quiet: bool = False
    target: SchemaTarget | None = None
    """By which schemas simulated values are written; None: they are as the topic's contract has them."""
    is_transactional: bool = False
    aborted_share: float = 0.0
    """Whether records are sent in Kafka's transactions."""

    @property
    def _console(self) -> Console:
        return Console(stderr=True, quiet=self.quiet)

    def send_simulated(self, plan: SimulationPlan) -> None:
        """Sends the records of a simulated topic, and what follows from them to its companion topic.

        With a target it registers a schema for each of the two, before anything is sent; raises what `FramedValues`
        raises.
        """
        console = self._console
        console.print(f"{plan.simulation.title}, seed {plan.seed}", highlight=False)
        topic = plan.open()
        framed: dict[str, FramedValues] = {}

        def begin(kafka: KafkaResource) -> Iterator[Record]:
            partitions, simulation = self.settings.topic_partitions, plan.simulation
            companion = simulation.find_companion(kafka, self.topic, partitions, console.print)
            records = plan.records(topic, companion)
            if self.target is None:
                return records
            from jobs.simulator.framed_values import FramedValues, frame_records

            framed[self.topic] = FramedValues(simulation.load_contract(), self.topic, self.target)
            if companion and simulation.load_companion_contract is not None:
                framed[companion] = FramedValues(simulation.load_companion_contract(), companion, self.target)
            return frame_records(records, self.topic, framed)

        report = self._send(console, begin, plan.pace, plan.total)
        unframed = {"not_framed": sum(each.unframed for each in framed.values())} if framed else {}
        _finish(console, topic.counts | unframed, report)

    def send_recording(self, recording: Recording) -> None:
        """Sends a recording. Raises `UsageError` for a file or a row that cannot be read, and when nothing was sent."""
        console = self._console

        def begin(kafka: KafkaResource) -> Iterator[Record]:
            return begin_replay(recording, self.settings, kafka, self.topic, console)

        report = self._send(console, begin, recording.pace, None, say_wait(recording, console))
        counts = recording.tally.counts()
        say_tally(recording, console)
        _finish(console, counts, report)
        if not report.sent and not report.stopped:
            raise UsageError(
                f"Nothing was sent: no row of {recording.path} became a record. Name its columns with --map, and its "
                "format with --format."
            )

    def _send(
        self,
        console: Console,
        begin: Callable[[KafkaResource], Iterator[Record]],
        pace: Pace,
        total: int | None,
        on_wait: OnWait | None = None,
    ) -> SendReport:
        # Here, for the resource brings Dagster along, which `--help` can do without.
        from resources.kafka import KafkaResource
        from resources.stop_signals import StopSignals

        topic = self.topic
        with StopSignals() as stop, KafkaResource.from_settings(self.settings) as kafka:
            ensure_topic(kafka, topic, self.settings.topic_partitions)
            own = transactional_options(topic) if self.is_transactional else {}
            producer = kafka.producer(**PRODUCER_OPTIONS | own)
            records = begin(kafka)
            with show_progress(topic, total, console, quiet=self.quiet) as on_progress:
                return send_records(
                    records, producer, topic, pace=pace, stop=stop.received, on_progress=on_progress, on_wait=on_wait,
                    is_transactional=self.is_transactional, aborted_share=self.aborted_share,
                )  # fmt: skip


def _finish(console: Console, counts: dict[str, int], report: SendReport) -> None:
    table = Table(show_header=False, box=None)
    for name, count in counts.items():
        table.add_row(name, f"{count:,}")
    table.add_row("acknowledged", f"{report.acknowledged:,}")
    if report.aborted:
        table.add_row("aborted and sent again", f"{report.aborted:,}")
    if report.failed:
        table.add_row("failed", f"{report.failed:,}", style="red")
    table.add_row("seconds", f"{report.seconds:,.1f}")
    table.add_row("records/s", f"{report.rate:,.0f}")
    console.print(table)
    if report.stopped:
        console.print("Stopped on request; everything in hand was delivered." if not report.failed else "Stopped.")
    report.raise_if_failed()
