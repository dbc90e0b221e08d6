"""The one reader of the page: looks for new versions, and makes again what they change, for all who look."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from jobs.page.followed_table import FollowedTable
from jobs.page.kept_rows import KeptRows
from jobs.page.panel import Panel, PanelInput
from jobs.page.platform_view import PlatformView
from jobs.page.rendering import render_panel
from platform_assets.errors import HeadraceError
from platform_assets.store_errors import find_store_error
from platform_assets.streaming.stream_spec import StreamGroup

if TYPE_CHECKING:
    import duckdb

    from resources.duckdb import DuckDBResource
    from resources.lakehouse import LakehouseResource

_log = logging.getLogger(__name__)

_CLOSE_SECONDS = 5.0


@dataclass(frozen=True)
class PanelState:
    """A panel as it is shown. `html` empty: it is left out.

    `good_at` is when its tables were last looked at without trouble; `trouble` says why it stands since then, or is
    empty.
    """

    title: str
    html: str = ""
    good_at: datetime | None = None
    trouble: str = ""


class PageReader:
    """Reads all that the page shows. From one thread at a time; opens nothing before the first `refresh`."""

    def __init__(
        self,
        lakehouse: LakehouseResource,
        engine: DuckDBResource,
        panels: Sequence[Panel],
        groups: Sequence[StreamGroup],
    ) -> None:
        self._lakehouse = lakehouse
        self._engine = engine
        self._panels = panels
        self._groups = groups
        self._at_work = threading.Lock()
        self._open = ExitStack()
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._tables: dict[str, FollowedTable] = {}
        self._kept: dict[str, KeptRows] = {}
        self._states = {panel.name: PanelState(panel.title) for panel in panels}
        self._platform: PlatformView | None = None
        self._minute: datetime | None = None

    def refresh(self, platform: PlatformView, now: datetime) -> Mapping[str, PanelState]:
        """The panels as they are, each with its own trouble: a table that cannot be read takes no other panel away.

        What no commit has changed is not read again. Raises `MissingDependencyError` without DuckDB.
        """
        with self._at_work:
            return self._refresh(platform, now)

    def _refresh(self, platform: PlatformView, now: datetime) -> Mapping[str, PanelState]:
        if self._connection is None:
            self._connect()
        minute = now.replace(second=0, microsecond=0)
        is_new_minute, self._minute = minute != self._minute, minute
        is_new_view, self._platform = platform is not self._platform, platform
        troubles = self._look()
        for panel in self._panels:
            try:
                for table in {kept.table.name for kept in panel.kept} & troubles.keys():
                    raise troubles[table]
                changed = [self._kept[kept.name].follow(now) for kept in panel.kept]
                if is_new_minute:
                    for kept in panel.kept:
                        self._kept[kept.name].forget_old()
                old = self._states[panel.name]
                is_due = any(changed) or is_new_minute or (panel.reads_platform and is_new_view) or bool(old.trouble)
                html = self._render(panel, platform, now) if is_due or old.good_at is None else old.html
                self._states[panel.name] = PanelState(panel.title, html, now)
                if old.trouble:
                    _log.warning("The panel %s is read again.", panel.name)
            except Exception as error:  # noqa: BLE001 of any library: the page stands, and says since when
                self._note(panel, error)
        return dict(self._states)

    def close(self) -> None:
        """Frees what `refresh` has opened; leaves it to the end of the process where a store has that hang."""
        if self._at_work.acquire(timeout=_CLOSE_SECONDS):
            self._open.close()
            self._at_work.release()

    def _connect(self) -> None:
        connection = self._open.enter_context(self._engine.connected())
        # A second thread of DuckDB gains nothing at a few files a second, and would take a core from the streams.
        connection.execute("SET threads = 1")
        self._connection = connection
        columns = {
            kept.table.name: kept.time_column for panel in self._panels for kept in panel.kept if kept.time_column
        }
        names = {stream.main_table.name for group in self._groups for stream in group.streams}
        names |= {kept.table.name for panel in self._panels for kept in panel.kept}
        options = self._lakehouse.storage_options()
        for name in sorted(names):
            self._tables[name] = FollowedTable(self._lakehouse.table_uri(name), options, columns.get(name, ""))
        for panel in self._panels:
            for kept in panel.kept:
                table = self._tables[kept.table.name]
                self._kept[kept.name] = KeptRows(connection, self._lakehouse, kept, table)

    def _look(self) -> dict[str, Exception]:
        """Looks for new versions of every table; returns those that could not be looked at, or are gone."""
        troubles: dict[str, Exception] = {}
        for name, table in self._tables.items():
            try:
                table.look()
            except OSError as error:
                troubles[name] = error
            if table.was_there and table.version is None:
                troubles.setdefault(name, FileNotFoundError(f"{name} is not there any more"))
        return troubles

    def _render(self, panel: Panel, platform: PlatformView, now: datetime) -> str:
        if not all(self._kept[kept.name].has_rows for kept in panel.kept):
            return ""
        versions = {
            name: (table.version, table.committed_at)
            for name, table in self._tables.items()
            if table.version is not None and table.committed_at is not None
        }
        newest = {kept.name: self._kept[kept.name].newest for kept in panel.kept}
        values = panel.build(PanelInput(now, self._build_ask(), newest, versions, platform, self._groups))
        return "" if values is None else render_panel(panel, values)

    def _build_ask(self) -> Callable[..., list[dict[str, Any]]]:
        connection = self._connection
        assert connection is not None

        def ask(sql: str, **parameters: Any) -> list[dict[str, Any]]:
            return connection.sql(sql, params=parameters).to_arrow_table().to_pylist()

        return ask

    def _note(self, panel: Panel, error: Exception) -> None:
        old = self._states[panel.name]
        if not old.trouble:
            _log.warning("The panel %s stands: %s", panel.name, describe_trouble(self._lakehouse.root_uri, error))
            _log.debug("Why it stands", exc_info=error)
        trouble = describe_trouble(self._lakehouse.root_uri, error)
        self._states[panel.name] = PanelState(panel.title, old.html, old.good_at, trouble)


def describe_trouble(root: str, error: Exception) -> str:
    """Why tables cannot be read, for people: without addresses and paths, of which a page tells nobody."""
    if find_store_error(root, str(error)) is not None:
        return "The object store does not answer, or refuses."
    if isinstance(error, FileNotFoundError):
        return "A table is not there any more."
    if isinstance(error, HeadraceError):
        return str(error)
    return f"Its tables cannot be read ({type(error).__name__})."


def now_utc() -> datetime:
    """The time."""
    return datetime.now(UTC)
