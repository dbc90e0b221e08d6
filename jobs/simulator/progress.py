"""A progress bar for a person at a terminal; nothing for logs, pipes and `--quiet`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from jobs.simulator.producer import OnProgress


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:,.0f}/s")


@contextlib.contextmanager
def show_progress(title: str, total: int | None, console: Console, *, quiet: bool) -> Iterator[OnProgress | None]:
    """Gives the callback for `send_records`; None when nobody watches.

    `total` None shows a pulse, for a run without an end of its own.
    """
    if quiet or not console.is_terminal:
        yield None
        return
    columns: list[ProgressColumn] = [
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,} sent, {task.fields[acknowledged]:,} acknowledged"),
        _RateColumn(),
        TimeElapsedColumn(),
    ]
    if total is not None:
        columns.append(TimeRemainingColumn())
    with Progress(*columns, console=console, refresh_per_second=5) as progress:
        task = progress.add_task(title, total=total, acknowledged=0)

        def update(sent: int, acknowledged: int, _seconds: float) -> None:
            progress.update(task, completed=sent, acknowledged=acknowledged)

        yield update
