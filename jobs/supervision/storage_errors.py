"""What the database of Dagster's instance says where it does not do what is asked, in one line."""

from __future__ import annotations

from collections.abc import Iterator

from platform_assets.errors import InstanceUnavailableError


def find_storage_error(error: BaseException) -> InstanceUnavailableError | None:
    """The error for one of the database's, or of Dagster's after its last try; None for any other."""
    if (said := _find_words(error)) is None:
        return None
    return InstanceUnavailableError(
        f"The database of Dagster's instance does not do what is asked: {said}. Put that right, and call this again."
    )


def name_cause(error: BaseException) -> str:
    """What the database said, and of another error its type."""
    return _find_words(error) or type(error).__name__


def _find_words(error: BaseException) -> str | None:
    """The first line of the driver's own text: SQLAlchemy's repeats the statement, with the values that are written."""
    from sqlalchemy.exc import DBAPIError

    for each in _list_causes(error):
        if isinstance(each, DBAPIError):
            lines = [line.strip() for line in str(each.orig).splitlines() if line.strip()]
            return lines[0] if lines else type(each.orig).__name__
    return None


def _list_causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__
