"""Looks up what to show to one user, in milliseconds: a reader that stays open, for one thread."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import unquote, urlsplit

from platform_assets.reports.whole.recommendation_tables import PRODUCT_RECOMMENDATIONS_TABLE

if TYPE_CHECKING:
    from deltalake import DeltaTable

# Who is in the shop first, then who was; then where somebody is, then anywhere.
_BASES = ("session", "history", "country")


class RecommendationLookup:
    """Reads gold.product_recommendations by DuckDB. Each look-up sees the table's newest version.

    Files on a local disk are read by DuckDB itself, which leaves out all but the user's rows by their footers; files of
    an object store through Arrow, which reads more of them.
    """

    def __init__(self, lakehouse: Any) -> None:
        """Raises deltalake's `TableNotFoundError` where no night has written the table yet."""
        import duckdb

        self._table: DeltaTable = lakehouse.delta_table(PRODUCT_RECOMMENDATIONS_TABLE.name)
        self._connection = duckdb.connect(config={"threads": 1})
        self._connection.execute("SET TimeZone = 'UTC'")
        # The footers of files stay in memory: a Delta file never changes.
        self._connection.execute("SET parquet_metadata_cache = true")
        self._version: int | None = None
        self._relations: dict[str, str] = {}
        self._kept: dict[str, str] = {}

    def look_up(self, user: str, country: str | None = None, most: int = 10) -> list[dict[str, Any]]:
        """Finds at most `most` rows, best first: of the user; then, if too few, of the country, and of anywhere."""
        self._refresh()
        found: list[dict[str, Any]] = []
        for basis in _BASES:
            for where, value in self._conditions(basis, user, country):
                if len(found) < most and not (basis == "history" and found):
                    had = {row["product_id"] for row in found}
                    found += [row for row in self._fetch(basis, where, value) if row["product_id"] not in had]
        return found[:most]

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _conditions(self, basis: str, user: str, country: str | None) -> list[tuple[str, str | None]]:
        if basis != "country":
            return [("user_id = $value", user)]
        return [("country = $value", country), ("country IS NULL AND $value IS NULL", None)]

    def _fetch(self, basis: str, where: str, value: str | None) -> list[dict[str, Any]]:
        if basis not in self._relations:
            return []
        columns = ("product_id", "rank", "score", "reason", "computed_at")
        rows = self._connection.execute(
            f"SELECT {', '.join(columns)} FROM {self._relations[basis]} WHERE {where} ORDER BY rank", {"value": value}
        ).fetchall()
        return [{"basis": basis, **dict(zip(columns, row, strict=True))} for row in rows]

    def _refresh(self) -> None:
        import pyarrow as pa

        self._table.update_incremental()
        if self._table.version() == self._version:
            return
        by_basis: dict[str, list[str]] = {}
        for action in pa.table(self._table.get_add_actions(flatten=True)).to_pylist():
            by_basis.setdefault(action["partition.basis"], []).append(action["path"])
        place = urlsplit(self._table.table_uri)
        if place.scheme == "file":
            self._relations = {
                basis: self._keep(basis, _of_files(place.path, paths)) for basis, paths in by_basis.items()
            }
        else:
            from platform_assets.delta_reader import register_pinned

            register_pinned(self._connection, "recommendations", self._table)
            self._relations = {
                basis: f"(SELECT * FROM recommendations WHERE basis = '{basis}')" for basis in by_basis
            }  # fmt: skip
        self._version = self._table.version()

    def _keep(self, basis: str, files: str) -> str:
        """Reads what is small into memory, once for the same files; the name under which SQL knows it."""
        if basis == "history":
            return files
        if self._kept.get(basis) != files:
            self._connection.execute(f"CREATE OR REPLACE TEMP TABLE {basis}_rows AS SELECT * FROM {files}")
            self._kept[basis] = files
        return f"{basis}_rows"


def _of_files(root: str, paths: list[str]) -> str:
    names = (f"{unquote(root).rstrip('/')}/{unquote(path)}".replace("'", "''") for path in paths)
    return "read_parquet([" + ", ".join(f"'{name}'" for name in names) + "], hive_partitioning = false)"
