"""What a person types to ask for something: a moment."""

from __future__ import annotations

from datetime import UTC, datetime

from platform_assets.errors import UsageError


def parse_moment(option: str, text: str | None) -> datetime | None:
    """A time that a person has typed, UTC where they named no zone. Raises `UsageError`, naming the option."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{option} {text}: write it as ISO-8601, for instance 2026-03-01T12:00:00Z.") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
