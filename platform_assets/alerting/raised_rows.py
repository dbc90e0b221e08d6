"""What rows of a table say about the keys of an alert, by DuckDB."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from platform_assets.alerting.alert_spec import AlertSpec
from platform_assets.errors import CatalogueError
from platform_assets.streaming.delta.delta_tables import build_arrow_schema
from platform_assets.streaming.moments import at_micros

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from resources.duckdb import DuckDBResource, KeptConnection

# A key or a text of megabytes would stand in each message, and in memory while the alert is open.
_MOST_CHARACTERS = 500
_PORTION_KEYS = 1_000


@dataclass(frozen=True)
class Raised:
    """What some rows say about one key.

    `rows` raise the alert: none, where the rows only say that it is over. `text`, `user` and `event_time` are of the
    first of them by time. `is_over`: the last of all rows by time says that it is over; it was at `last_at`.
    """

    key: str
    rows: int
    text: str
    user: str | None
    event_time: datetime | None
    is_over: bool
    last_at: datetime | None = None


def find_raised(
    engine: DuckDBResource | KeptConnection,
    spec: AlertSpec,
    rows: Iterator[pa.RecordBatch],
    since: datetime | None = None,
) -> Iterator[list[Raised]]:
    """What these rows say, in portions, in the order of the keys. Only rows at or after `since`, where that is given.

    Raises `CatalogueError` where an expression of the spec is none that DuckDB can compute over a row.
    """
    import duckdb
    import pyarrow as pa

    # What DuckDB says of an error of the reader is not the error.
    errors: list[Exception] = []

    def read() -> Iterator[pa.RecordBatch]:
        try:
            yield from rows
        except Exception as error:
            errors.append(error)
            raise

    with engine.connected() as connection:
        connection.register("changed", pa.RecordBatchReader.from_batches(build_arrow_schema(spec.table), read()))
        try:
            answer = connection.execute(_build_query(spec), {"since": since})
            while found := answer.fetchmany(_PORTION_KEYS):
                yield [_read(row) for row in found]
        except duckdb.Error as error:
            if errors:
                raise errors[0] from None
            raise _name_expression(spec, error) from None


def demand_valid(engine: DuckDBResource | KeptConnection, spec: AlertSpec) -> None:
    """Raises `CatalogueError` where an expression of the spec is none that DuckDB reads."""
    for _ in find_raised(engine, spec, iter(())):
        pass


def _name_expression(spec: AlertSpec, error: duckdb.Error) -> CatalogueError:
    said = next(iter(str(error).splitlines()), "")
    return CatalogueError(
        f"The alert {spec.name}: an expression of its file cannot be computed over {spec.table.name}. {said}"
    )


def _build_query(spec: AlertSpec) -> str:
    """One row a key. A row that both raises and ends an alert raises it; of one moment, the raising row is the last."""
    return f"""
        WITH said AS (
            SELECT left(coalesce(({spec.key})::VARCHAR, ''), {_MOST_CHARACTERS}) AS alert_key,
                   left(coalesce(({spec.text})::VARCHAR, ''), {_MOST_CHARACTERS}) AS alert_text,
                   ({spec.user or "NULL"})::VARCHAR AS alert_user,
                   "{spec.time_column}"::TIMESTAMPTZ AS happened_at,
                   coalesce(({spec.condition})::BOOLEAN, false) AS raises,
                   coalesce(({spec.over or "false"})::BOOLEAN, false) AS ends
            FROM changed
            WHERE $since::TIMESTAMPTZ IS NULL OR "{spec.time_column}" >= $since::TIMESTAMPTZ
        ), placed AS (
            SELECT *, {{'at': coalesce(happened_at, 'epoch'::TIMESTAMPTZ), 'text': alert_text,
                       'user': coalesce(alert_user, '')}} AS place,
                   {{'at': coalesce(happened_at, 'epoch'::TIMESTAMPTZ), 'raises': raises}} AS place_of_state
            FROM said WHERE raises OR ends
        )
        SELECT alert_key, count(*) FILTER (raises), arg_min(alert_text, place) FILTER (raises),
               arg_min(alert_user, place) FILTER (raises), epoch_us(min(happened_at) FILTER (raises)),
               arg_max(raises, place_of_state), epoch_us(max(happened_at))
        FROM placed GROUP BY alert_key ORDER BY alert_key
    """


def _read(row: tuple[Any, ...]) -> Raised:
    key, rows, text, user, *times, raises_last, last = row
    event_time, last_at = (None if micros is None else at_micros(micros) for micros in (*times, last))
    return Raised(key, rows, text or "", user, event_time, not raises_last, last_at)
