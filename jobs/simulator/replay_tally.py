"""What became of a recording's rows, and how it is told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta

# Bad rows that are kept to be shown; a wrong mapping would otherwise show every row of the file.
_SHOWN = 10


@dataclass
class ReplayTally:
    """What came of the rows: `records` were handed out, `bad_rows` were not; the first few with their reasons.

    `unordered` rows are dated before a row above them, `furthest_back` microseconds at most, and that behind row
    `furthest_row`; `sent_unordered` rows of a paced replay could not be put into order in time. `silences` were
    shortened. `paced_row` is the number and the recorded time of the row that a paced replay has handed out last.
    """

    records: int = 0
    bad_rows: int = 0
    shown: list[str] = field(default_factory=list)
    unordered: int = 0
    furthest_back: int = 0
    furthest_row: int = 0
    sent_unordered: int = 0
    silences: int = 0
    paced_row: tuple[int, int] = (0, 0)
    _latest: tuple[int, int] | None = None

    def refuse(self, text: str) -> None:
        """Counts a bad row; `text` names it."""
        self.bad_rows += 1
        if len(self.shown) < _SHOWN:
            self.shown.append(text)

    def note_order(self, number: int, at: int) -> None:
        """Takes the time of the next row of the file that becomes a record, in microseconds since 1970."""
        if self._latest is None or at >= self._latest[0]:
            self._latest = (at, number)
            return
        self.unordered += 1
        if self._latest[0] - at > self.furthest_back:
            self.furthest_back, self.furthest_row = self._latest[0] - at, self._latest[1]

    def counts(self) -> dict[str, int]:
        """The counts by their names for people."""
        counts = {"records": self.records, "bad rows (not sent)": self.bad_rows}
        if self.unordered:
            counts["rows out of time order"] = self.unordered
        return counts

    def warnings(self, *, is_paced: bool) -> Iterator[str]:
        """Sentences about what a person must know of the replay, when it has ended."""
        for text in self.shown:
            yield f"not sent: {text}"
        if self.bad_rows > len(self.shown):
            yield f"not sent: {self.bad_rows - len(self.shown):,} more"
        sent = self.sent_unordered if is_paced else self.unordered
        back = timedelta(seconds=self.furthest_back // 1_000_000)
        if sent:
            yield (
                f"{sent:,} rows were sent after later ones (furthest: {back} behind row {self.furthest_row:,}). What "
                "comes too late for its window is right only when it is repaired. Sort the file by time to avoid that."
            )
        elif self.unordered:
            yield (
                f"{self.unordered:,} rows were out of time order (furthest: {back} behind row {self.furthest_row:,}); "
                "they were sent in order."
            )
        if self.silences:
            yield f"{self.silences:,} silences of the recording were shortened to the longest wait (--longest-wait)."
