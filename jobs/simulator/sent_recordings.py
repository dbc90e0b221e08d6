"""Which recordings this home has sent to which topics: a warning before one is sent again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec


class Sending(msgspec.Struct, frozen=True):
    """One replay: of which content (`digest`), to which topic, when it began.

    `event_ids` is the column from which event ids were taken, where the rows have it.
    """

    digest: str
    topic: str
    topic_id: str
    event_ids: str
    begun: datetime


@dataclass(frozen=True)
class SentRecordings:
    """The list of replays, a file of JSON lines in the platform's home, one short line a replay."""

    path: Path

    def find(self, sending: Sending) -> list[Sending]:
        """Earlier replays of the same content to the same topic, oldest first. Raises `OSError`."""
        if not self.path.exists():
            return []
        found = []
        for line in self.path.read_bytes().splitlines():
            try:
                earlier = msgspec.json.decode(line, type=Sending)
            except msgspec.DecodeError:
                continue  # a line that a crash or a full disk cut short
            if (earlier.digest, earlier.topic_id) == (sending.digest, sending.topic_id):
                found.append(earlier)
        return found

    def add(self, sending: Sending) -> None:
        """Writes the replay down, before it sends: one that is killed has sent something as well. Raises `OSError`."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            file.write(msgspec.json.encode(sending) + b"\n")


def describe_repeat(sending: Sending, earlier: list[Sending], horizon_minutes: int | None, *, shifted: bool) -> str:
    """What sending again means, in sentences. `horizon_minutes` None: the stream does not deduplicate.

    `shifted`: the replay gives the rows new times.
    """
    last = earlier[-1].begun.astimezone(UTC)
    text = f"This recording was sent to {sending.topic} before, last at {last:%Y-%m-%d %H:%M} UTC."
    if horizon_minutes is None:
        return f"{text} The stream does not deduplicate (HEADRACE_DEDUPLICATION): every event will count twice."
    if all(before.event_ids != sending.event_ids for before in earlier):
        return f"{text} Event ids were taken from another column then, so every event will count twice."
    if shifted:
        return (
            f"{text} The event ids are the same, the times are new: what was read in the last {horizon_minutes} "
            "minutes is taken out again, what was read earlier will count twice."
        )
    return f"{text} The event ids and times are the same: what was read then is taken out again, however long ago."
