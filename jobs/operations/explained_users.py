"""`headrace explain --user`: how far a user's rows are in each table, and whether the user stands for many."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import islice

from jobs.operations.explained_tables import ExplainedTables, show_clock
from platform_assets.streaming.register.forgotten_names import hash_user
from platform_assets.streaming.stream_spec import TableStream
from platform_assets.tables.spec import TableSpec

# A user may have ten thousand rows around one moment.
MAX_ROWS = 20


def explain_user(
    accepted: Sequence[TableSpec],
    derived: Sequence[TableStream],
    tables: ExplainedTables,
    user_id: str,
    moment: datetime,
) -> list[str]:
    """Lists this user's rows around a moment in each table of users, and says whether they are final.

    `accepted` are the tables of accepted records. Those that do not say whose a record is are not searched.
    """
    said = _explain_forgotten(tables, user_id)
    for events in accepted:
        if events.roles.user_id is None:
            said.append(f"{events.name} does not say whose a record is: it is not searched.")
        else:
            own = [stream for stream in derived if stream.source.table.name == events.name]
            said += _explain_events(events, own, tables, user_id, moment)
    return said


def _explain_events(
    events: TableSpec, derived: Sequence[TableStream], tables: ExplainedTables, user_id: str, moment: datetime
) -> list[str]:
    """The user's rows in one table of accepted records and the tables that come from it."""
    said = []
    counts = tables.count_events(events, user_id)
    is_anonymous = 0 < counts.own == counts.own_anonymous
    by_user = name_user_tables(derived)
    if counts.own_anonymous:
        said.append(
            f"User {user_id} stands for many or for nobody: {counts.own_anonymous:,} of its {counts.own:,} events in "
            f"{events.name} are anonymous, as are {counts.anonymous:,} of all {counts.events:,} events. They count in "
            f"sums over all users{f', and in no row of {by_user}' if by_user else ''}."
        )
    elif not by_user:
        said.append(
            f"User {user_id} has {counts.own:,} of the {counts.events:,} events in {events.name}; no table over it has "
            "rows of one user each."
        )
    for stream in derived:
        if stream.span.by_user:
            rows = _explain_rows(stream, tables, user_id, moment)
            said += rows or ([] if is_anonymous else [_explain_missing(stream, tables, user_id, moment)])
    return said


def name_user_tables(derived: Sequence[TableStream]) -> str:
    """The tables whose rows are of one user each."""
    return ", ".join(stream.main_table.name for stream in derived if stream.span.by_user)


def _explain_forgotten(tables: ExplainedTables, user_id: str) -> list[str]:
    for row in tables.read("platform.forgotten_users"):
        if row["user_hash"] == hash_user(user_id, row["salt"]):
            return [f"User {user_id} is forgotten since {show_clock(row['forgotten_at'])}: no table has rows of them."]
    return []


def _explain_rows(stream: TableStream, tables: ExplainedTables, user_id: str, moment: datetime) -> list[str]:
    """The user's rows around the moment; those that hold now, whatever the moment, of a table of latest rows."""
    table, span, until = stream.main_table, stream.span, _describe_state(stream, tables)
    columns = [column.name for column in table.columns]
    complete, said = tables.complete_until(stream.name), []
    own = tables.find_rows(table.name, span.user_column, user_id, columns)
    around = (row for row in own if row[span.start_column] <= moment <= span.final_at(row[span.end_column]))
    for row in islice(own if stream.is_latest else around, MAX_ROWS):
        end = span.final_at(row[span.end_column])
        is_final = complete is not None and end <= complete
        verdict = "final" if is_final else f"open until the watermark passes {show_clock(end)}"
        verdict = "as its latest change left it" if stream.is_latest else verdict
        values = ", ".join(f"{name} {_show(row[name])}" for name in columns if name != span.user_column)
        said.append(f"{table.name}: {values}: {verdict} ({until}).")
    return said


def _explain_missing(stream: TableStream, tables: ExplainedTables, user_id: str, moment: datetime) -> str:
    """Why there is no row of the user."""
    name, complete = stream.main_table.name, tables.complete_until(stream.name)
    if not tables.has(name):
        return f"{name}: the table is not there yet, for {stream.name} has not run."
    if stream.is_latest:
        return f"{name}: no row of user {user_id}."
    is_open = complete is None or moment + stream.span.longest_open > complete
    why = "what is open then is in state" if is_open else "no row counts that moment, and none will"
    return f"{name}: no row of user {user_id} at {show_clock(moment)}; {_describe_state(stream, tables)}: {why}."


def _describe_state(stream: TableStream, tables: ExplainedTables) -> str:
    complete = tables.complete_until(stream.name)
    return "nothing is final yet" if complete is None else f"final until {show_clock(complete)}"


def _show(value: object) -> str:
    return show_clock(value) if isinstance(value, datetime) else str(value)
