"""What an alert is, as a frozen value: which rows of which table raise it, and when it is over."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from platform_assets.errors import CatalogueError
from platform_assets.tables.spec import TableSpec

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


class Severity(StrEnum):
    """How much an alert needs people."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True)
class AlertSpec:
    """One kind of alert. A file in `platform_assets/alerts/` defines it as `ALERT`.

    `condition`, `key`, `text`, `over` and `user` are SQL expressions (DuckDB) over the columns of `table`. A row that
    meets `condition` raises the alert of its `key`: it opens, or goes on where it is open. `text` is the sentence for
    people, of the row that opens it. `time_column` is when it happened.

    An open alert closes by a later row of its key that meets `over`, or when none has raised it for `quiet`; one of the
    two must be there. For `cool_down` after that, rows of its key open no other one.

    `recomputed_within` is for a table whose rows are computed again and again, as a report's are. A row that has raised
    it before, and has the same key and time as then, is no news; nor is one that happened longer ago than this.

    `user` is whose row it is, as `forget-user` names a person: needed where rows are of people. `owner` is who is to
    look at it: a team or a person.
    """

    name: str
    description: str
    table: TableSpec
    condition: str
    key: str
    text: str
    severity: Severity
    owner: str
    time_column: str
    over: str = ""
    quiet: timedelta | None = None
    cool_down: timedelta = timedelta(0)
    user: str = ""
    recomputed_within: timedelta | None = None

    def __post_init__(self) -> None:
        """Raises `CatalogueError` for what no alert can be."""
        where = f"The alert {self.name}"
        if not _NAME.fullmatch(self.name):
            raise CatalogueError(f"{where}: its name must be lower-case letters, digits and underscores.")
        if not self.over and self.quiet is None:
            raise CatalogueError(f"{where} would never close: give it `over`, `quiet` or both.")
        if self.quiet is not None and self.quiet <= timedelta(0):
            raise CatalogueError(f"{where}: `quiet` must be longer than nothing.")
        if self.cool_down < timedelta(0):
            raise CatalogueError(f"{where}: `cool_down` cannot be negative.")
        if self.recomputed_within is not None and self.recomputed_within <= timedelta(0):
            raise CatalogueError(f"{where}: `recomputed_within` must be longer than nothing.")
        if self.time_column not in {column.name for column in self.table.columns}:
            raise CatalogueError(f"{where}: {self.table.name} has no column {self.time_column}.")


def name_alert_query(alert: str) -> str:
    """The name under which an alert's follower is shown, paused and started again: `alert_fraud_suspected`."""
    return f"alert_{alert}"


CHANNEL_PREFIX = "channel_"


def name_channel_query(channel: str) -> str:
    """The same of a channel: `channel_webhook`."""
    return f"{CHANNEL_PREFIX}{channel}"
