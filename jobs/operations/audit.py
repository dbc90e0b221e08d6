"""Keeps on record who changed data with which command, when and why, and what came of it: `platform.audit_log`.

A row stands there before anything is changed, and another one after the end. So an attempt that was killed is on record
too, as one that has begun and has no end. No row is ever changed or removed.
"""

from __future__ import annotations

import json
import logging
import socket
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from platform_assets.errors import HeadraceError, StorageError, StoreUnavailableError, TransientError, UsageError
from platform_assets.store_errors import find_store_error
from platform_assets.streaming.delta.appended_once import append_once
from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table
from platform_assets.tables.platform import AUDIT_LOG, FORGOTTEN_USERS
from resources.account import name_account

if TYPE_CHECKING:
    from deltalake import DeltaTable

    from resources.lakehouse import LakehouseResource

BEGUN, FINISHED, FAILED = "begun", "finished", "failed"

# A whole file as the reason, or the trace of a library, would be in the table for ever.
_MOST_CHARACTERS = 2000
# What Dagster has where a reverse proxy, or who launches the run, says who it is; then what launches by itself.
_USER_TAGS = ("dagster/user", "user")
_MACHINE_TAGS = {"dagster/schedule_name": "schedule", "dagster/sensor_name": "sensor"}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Act:
    """What somebody wants to do to the data. Made by `describe_act`.

    `has_private_errors`: its errors may name a user or a secret, so only their type is kept.
    """

    command: str
    arguments: Mapping[str, Any]
    reason: str
    who: str
    run_id: str | None = None
    has_private_errors: bool = False
    find_user_hash: Callable[[], str | None] = lambda: None


@dataclass
class Outcome:
    """What the code under `audited` says of what it has done, for the last row."""

    detail: str = field(default="")


def describe_act(
    command: str,
    reason: str,
    arguments: Mapping[str, Any],
    *,
    run: Any = None,
    needs_reason: bool = True,
    has_private_errors: bool = False,
    find_user_hash: Callable[[], str | None] = lambda: None,
) -> Act:
    """An act of the account that runs this process; of a job's `run` (Dagster's) of who launched it.

    Raises `UsageError` without a reason where one is needed, and for one that is too long.
    """
    reason = reason.strip()
    if needs_reason and not reason:
        raise UsageError(
            f"{command} changes data: say why, with --because (in a run's config: reason). It is kept in "
            f"{AUDIT_LOG.name}."
        )
    if len(reason) > _MOST_CHARACTERS:
        raise UsageError(f"The reason has {len(reason):,} characters: {_MOST_CHARACTERS:,} are kept. Shorten it.")
    who, run_id = (name_account(), None) if run is None else (identify_launcher(run.tags), run.run_id)
    return Act(command, arguments, reason, who, run_id, has_private_errors, find_user_hash)


def identify_launcher(tags: Mapping[str, str]) -> str:
    """Finds who launched a run, by its tags; where they do not say, it is the account under which it runs.

    Who may launch a run may give it any tag: the name is as good as what guards the web server.
    """
    for tag in _USER_TAGS:
        if tags.get(tag):
            return tags[tag]
    for tag, kind in _MACHINE_TAGS.items():
        if tags.get(tag):
            return f"{kind} {tags[tag]}"
    return name_account()


@contextmanager
def audited(lakehouse: LakehouseResource, act: Act | None) -> Iterator[Outcome]:
    """Has the row `begun` written before its block is entered, and `finished` or `failed` after it.

    None: the block changes nothing, and no row is written. Raises `StorageError` or `StoreUnavailableError` where the
    first row can't be written, before the block, which is not entered then; and where the last row of a block that has
    done its work can't be. An error of the block is raised as it is.
    """
    outcome = Outcome()
    if act is None:
        yield outcome
        return
    attempt = uuid.uuid4().hex
    try:
        _append(lakehouse, _build_row(attempt, act, BEGUN, ""))
    except Exception as error:
        raise _find_cause(lakehouse, error, "Nothing was changed, because") from error
    try:
        yield outcome
    except BaseException as error:
        try:
            _append(lakehouse, _build_row(attempt, act, FAILED, _describe_error(error, act)))
        except Exception as unwritten:  # noqa: BLE001 (the block's own error is what has to be seen)
            _log.warning("%s", _find_cause(lakehouse, unwritten, f"{act.command} has failed, and"))
        raise
    try:
        _append(lakehouse, _build_row(attempt, act, FINISHED, outcome.detail))
    except Exception as error:
        raise _find_cause(lakehouse, error, f"{act.command} is done, but") from error


def note_act(lakehouse: LakehouseResource, act: Act) -> None:
    """Writes one row, `finished`, for what changes no data. Where that fails there is a warning in the log instead.

    A group can be held while the lakehouse's store is away: that must not wait for a row.
    """
    try:
        _append(lakehouse, _build_row(uuid.uuid4().hex, act, FINISHED, ""))
    except Exception as error:  # noqa: BLE001 (whatever it is, the hold is in place)
        _log.warning("%s", _find_cause(lakehouse, error, f"{act.command} is recorded, but"))


def add_audit_rows(source: LakehouseResource, target: LakehouseResource) -> None:
    """Adds the rows of another lakehouse's audit log to this one's, each once however often it is called."""
    theirs = source.find_table(AUDIT_LOG.name)
    if theirs is None:
        return
    table = create_table(target.table_uri(AUDIT_LOG.name), AUDIT_LOG, target.storage_options())
    known = {
        (row["attempt_id"], row["outcome"]) for row in table.to_pyarrow_table(columns=[*AUDIT_LOG.key]).to_pylist()
    }
    rows = theirs.to_pyarrow_table().to_pylist()
    if missing := [row for row in rows if (row["attempt_id"], row["outcome"]) not in known]:
        _add(table, missing, f"audit-of-{uuid.uuid4().hex}", 0)


def find_user_hash(lakehouse: LakehouseResource, user: str) -> str | None:
    """What `platform.forgotten_users` has instead of the user_id; None while it is empty, for it makes the salt."""
    from platform_assets.streaming.register.forgotten_names import hash_user

    table = lakehouse.find_table(FORGOTTEN_USERS.name)
    salts = [] if table is None else table.to_pyarrow_table(columns=["salt"])["salt"].to_pylist()
    return hash_user(user, salts[0]) if salts else None


def leave_out_secrets(place: str) -> str:
    """A path or URI without what may stand in it for a log-in: account, query and fragment."""
    if "://" not in place:
        return place
    try:
        parts = urlsplit(place)
    except ValueError:  # no address: nobody can say where in it a secret stands
        return f"{place.partition('://')[0]}://…"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def shorten_card(card_id: str) -> str:
    """The last four characters of a card, as on a receipt."""
    return f"…{card_id[-4:]}"


def _build_row(attempt: str, act: Act, outcome: str, detail: str) -> dict[str, Any]:
    texts = {
        "who": act.who, "command": act.command, "reason": act.reason, "detail": detail[:_MOST_CHARACTERS] or None,
        "arguments": json.dumps(act.arguments, ensure_ascii=False, default=str), "host": socket.gethostname(),
    }  # fmt: skip
    # Bytes of a terminal in another encoding are no text that a table can hold.
    clean = {name: text and text.encode(errors="backslashreplace").decode() for name, text in texts.items()}
    return {
        "attempt_id": attempt, "at": datetime.now(UTC), "outcome": outcome, "run_id": act.run_id,
        "user_hash": act.find_user_hash(), **clean,
    }  # fmt: skip


def _append(lakehouse: LakehouseResource, row: dict[str, Any]) -> None:
    table = create_table(lakehouse.table_uri(AUDIT_LOG.name), AUDIT_LOG, lakehouse.storage_options())
    _add(table, [row], f"audit-{row['attempt_id']}", 0 if row["outcome"] == BEGUN else 1)


def _add(table: DeltaTable, rows: list[dict[str, Any]], app: str, version: int) -> None:
    """A store that loses its answer to the commit does not double the rows: it is a transaction."""
    import pyarrow as pa

    append_once(table, pa.Table.from_pylist(rows, build_arrow_schema(AUDIT_LOG)), app, version)


def _find_cause(lakehouse: LakehouseResource, error: Exception, so: str) -> HeadraceError:
    """The error that says in one line what has become of the act, and why its row could not be written."""
    known = error if isinstance(error, HeadraceError) else find_store_error(lakehouse.root_uri, str(error))
    kind = StoreUnavailableError if isinstance(known, TransientError) else StorageError
    why = str(known) if known is not None else f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
    return kind(f"{so} no row can be written to {AUDIT_LOG.name}. {why}")


def _describe_error(error: BaseException, act: Act) -> str:
    """An error of ours in its own words, for these hold no secret; of another one the type."""
    if isinstance(error, HeadraceError) and not act.has_private_errors:
        return f"{type(error).__name__}: {error}"
    return type(error).__name__
