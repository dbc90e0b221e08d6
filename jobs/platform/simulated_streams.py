"""The streams whose topics the platform can fill itself, and the simulators that do so, each a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from platform_assets.streaming.stream_spec import Stream, select_downstream, select_ingest

# What `headrace simulate` is told of each topic that it can fill, by the stream over it. Somebody's own topic is filled
# by its producers. Cards are the same ones in each run, for what is known of a card is used when it pays again.
_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "events": (),
    "transactions": ("--topic", "transactions", "--habit", "population=1"),
    "telemetry": ("--topic", "telemetry", "--habit", "population=1"),
    "access_logs": ("--topic", "access_logs"),
}
# Streams over topics that the simulator of another stream fills besides its own.
_COMPANIONS: Mapping[str, tuple[str, ...]] = {"transactions": ("fraud_reports",)}


def select_simulated(streams: Sequence[Stream]) -> list[Stream]:
    """The streams over topics that can be filled, and those over their tables."""
    named = {name for filled in _OPTIONS for name in (filled, *_COMPANIONS.get(filled, ()))}
    ingest = [stream for stream in select_ingest(streams) if stream.name in named]
    return [*ingest, *select_downstream(ingest, streams)]


def select_senders(streams: Sequence[Stream]) -> list[Stream]:
    """The streams over topics that have a simulator of their own: each is to be started once."""
    return [stream for stream in select_ingest(streams) if stream.name in _OPTIONS]


def start_simulator(
    stream: Stream, *options: str, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Starts `headrace simulate` for the topic of such a stream, with these options, in a session of its own."""
    command = [sys.executable, "-m", "jobs.cli", "simulate", "--quiet", *_OPTIONS[stream.name], *options]
    return subprocess.Popen(command, env=environment, start_new_session=True)


@contextmanager
def sending(stream: Stream, *options: str, environment: Mapping[str, str] | None = None) -> Iterator[None]:
    """Lets a simulator send to the topic of such a stream for the length of the block."""
    sender = start_simulator(stream, *options, environment=environment)
    try:
        yield
    finally:
        sender.terminate()
        sender.wait(30)
