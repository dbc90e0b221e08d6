"""Reports on a recorded clickstream before, while and after it is sent."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from rich.console import Console

from jobs.simulator.producer import OnWait
from jobs.simulator.recorded import Recording
from jobs.simulator.recorded_times import iso
from jobs.simulator.sent_recordings import Sending, SentRecordings, describe_repeat
from jobs.simulator.simulated_topic import Record
from jobs.simulator.simulation import now_microseconds

if TYPE_CHECKING:
    from resources.kafka import KafkaResource
    from resources.settings import Settings


def begin_replay(
    recording: Recording, settings: Settings, kafka: KafkaResource, topic: str, console: Console
) -> Iterator[Record]:
    """The records, after a warning if they were sent to this topic before. Raises `UsageError`."""
    ids = recording.mapping.column_of(recording.mapping.fields.derived_id)
    sending = Sending(recording.file.digest(), topic, kafka.topic_id(topic), ids, datetime.now(UTC))
    records = recording.records(now_microseconds())
    sent = SentRecordings(settings.home / "sent_recordings.jsonl")
    try:
        if earlier := sent.find(sending):
            horizon = settings.deduplication_horizon_minutes if settings.deduplication else None
            shifted = recording.time == "present"
            _warn(console, describe_repeat(sending, earlier, horizon, shifted=shifted))
        sent.add(sending)
    except OSError as error:
        _warn(console, f"Whether this recording was sent before is not known: {sent.path} ({error.strerror}).")
    return records


def say_wait(recording: Recording, console: Console) -> OnWait:
    """A line for each long wait of a paced replay."""

    def say(seconds: float) -> None:
        wait, until = timedelta(seconds=round(seconds)), datetime.now(UTC) + timedelta(seconds=seconds)
        number, at = recording.tally.paced_row
        _warn(console, f"Waiting {wait}, until {until:%Y-%m-%d %H:%M:%S} UTC, with row {number:,} of {iso(at)}.")

    return say


def say_tally(recording: Recording, console: Console) -> None:
    """The bad rows, and what else a person must know of the replay that has ended."""
    for line in recording.tally.warnings(is_paced=recording.pace is not None):
        _warn(console, line)


def _warn(console: Console, text: str) -> None:
    console.print(text, style="yellow", markup=False, highlight=False)
