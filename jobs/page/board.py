"""The newest state of the page, and all who follow it: made once, sent to each as it stands when the viewer is free."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from platform_assets.errors import NotReadyError

# Each viewer holds a connection and a kilobyte or two. A page that a wall of screens and a team look at has a hundred.
MOST_VIEWERS = 200


@dataclass(frozen=True)
class PageState:
    """What is shown. `at` is when the tables were last looked at without trouble; None: not yet.

    `status` says whether the page is live, or since when its numbers stand, and why. `panels` are inner HTML by name;
    an empty one is left out.
    """

    status: str = "The tables are read for the first time."
    is_live: bool = False
    at: datetime | None = None
    panels: Mapping[str, str] = field(default_factory=dict)


class Board:
    """Holds the state; used by the server's event loop alone.

    A viewer who is slow misses states, and gets the newest: nothing is queued for anybody. `viewers` counts them.
    """

    def __init__(self) -> None:
        self.state = PageState()
        self.viewers = 0
        self._number = 0
        self._changed_in: dict[str, int] = {}
        self._changed = asyncio.Event()
        self._messages: dict[int, bytes] = {}
        self._is_closed = False

    def publish(self, state: PageState) -> None:
        """Shows a state from now on; wakes those who follow."""
        self._number += 1
        for name, html in state.panels.items():
            if self.state.panels.get(name) != html:
                self._changed_in[name] = self._number
        self.state = state
        self._messages = {}
        self._wake()

    def close(self) -> None:
        """Ends all who follow."""
        self._is_closed = True
        self._wake()

    async def follow(self) -> AsyncIterator[bytes]:
        """Events of the state, for one viewer: the whole of it first, then what has changed.

        Raises `NotReadyError` where there are `MOST_VIEWERS`.
        """
        if self.viewers >= MOST_VIEWERS:
            raise NotReadyError(f"{MOST_VIEWERS} viewers follow the page: one more waits until somebody leaves.")
        self.viewers += 1
        try:
            seen = 0
            while not self._is_closed:
                changed = self._changed
                if self._number > seen:
                    message, seen = self._build_message(seen), self._number
                    yield message
                else:
                    await changed.wait()
        finally:
            self.viewers -= 1

    def _build_message(self, seen: int) -> bytes:
        """What has changed since this state. Those who have seen the same get the same bytes."""
        if seen not in self._messages:
            state = self.state
            panels = {name: html for name, html in state.panels.items() if self._changed_in[name] > seen}
            body = {
                "at": None if state.at is None else state.at.isoformat(timespec="seconds"),
                "status": state.status, "is_live": state.is_live, "panels": panels,
            }  # fmt: skip
            # In ASCII: half of a surrogate pair in a record would stop the stream.
            self._messages[seen] = f"event: state\ndata: {json.dumps(body)}\n\n".encode("ascii")
        return self._messages[seen]

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
