"""What a panel of the page is, as a frozen value: what it keeps of tables, and what it shows of that."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from jobs.page.kept_rows import Kept
from jobs.page.platform_view import PlatformView
from platform_assets.streaming.stream_spec import StreamGroup


@dataclass(frozen=True)
class PanelInput:
    """What a panel is made of.

    `ask` answers SQL (DuckDB) over the relations of its `kept`, with parameters by name. `newest` is by relation the
    newest time of its rows, at most `now`. `versions` are by table its newest version and when it was committed: of the
    enabled streams' tables and those that are kept.
    """

    now: datetime
    ask: Callable[..., list[dict[str, Any]]]
    newest: Mapping[str, datetime | None]
    versions: Mapping[str, tuple[int, datetime]]
    platform: PlatformView
    groups: Sequence[StreamGroup]


@dataclass(frozen=True)
class Panel:
    """One panel. A file in `jobs/page/panels/` defines it as `PANEL`, and `<name>.html` next to it is its template.

    `build` gives the template's values, or None where there is nothing to show; the panel is then left out, as it is
    while a table of `kept` does not exist. `order` is its place. `reads_platform`: it changes with what Dagster's
    instance says, too. `is_wide`: it takes a row of its own.
    """

    name: str
    title: str
    order: int
    build: Callable[[PanelInput], Mapping[str, Any] | None]
    kept: tuple[Kept, ...] = field(default=())
    reads_platform: bool = False
    is_wide: bool = False
