"""Rows that differ, as they may stand where they stay: in Dagster's log, in a message, in a run's output.

What Dagster is told it keeps, beyond the reach of `headrace forget-user`. So a user's name becomes a digest by a key
that is made anew in each process and kept nowhere: rows of one user are known as such within a verdict, and nobody can
find out whose they are. `headrace check --rows` prints the rows as they are, to the terminal alone.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_KEY = secrets.token_bytes(32)

_shown: ContextVar[list[tuple[str, Mapping[str, Any]]] | None] = ContextVar("shown", default=None)


def hide_users(
    rows: Iterable[Mapping[str, Any]], origin: str = "", user_column: str | None = "user_id"
) -> list[dict[str, Any]]:
    """The rows with a digest in the place of each user's name, in `user_column`.

    `origin`: whose rows they are, for `shown_rows`.
    """
    found = list(rows)
    asked = _shown.get()
    if asked is not None:
        asked.extend((origin, row) for row in found)
    return [{name: _hide(value) if name == user_column else value for name, value in row.items()} for row in found]


def render_rows(rows: Iterable[Mapping[str, Any]]) -> str:
    """The rows as a list in Markdown, in which no value of theirs means anything."""
    return "\n".join("- `" + str(dict(row)).replace("`", "'") + "`" for row in rows) or "none"


@contextmanager
def shown_rows() -> Iterator[list[tuple[str, Mapping[str, Any]]]]:
    """Yields a list that gets the rows of every `hide_users` in the block as they were, each with its origin."""
    found: list[tuple[str, Mapping[str, Any]]] = []
    token = _shown.set(found)
    try:
        yield found
    finally:
        _shown.reset(token)


def _hide(user: Any) -> str | None:
    if user is None:
        return None
    return f"user {hashlib.blake2b(str(user).encode(errors='surrogatepass'), key=_KEY, digest_size=4).hexdigest()}"
