"""Which stream group a person means: in a run's config, or on the command line."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg

from platform_assets.errors import UsageError
from platform_assets.streaming.stream_spec import StreamGroup


def find_groups(groups: Sequence[StreamGroup], group: str, stream: str) -> list[StreamGroup]:
    """The groups that are meant: the one named, else that of the stream, else all.

    Raises `UsageError` for a name that does not exist.
    """
    named = [each for each in groups if group in ("", each.name)]
    if not named:
        raise UsageError(f"There is no stream group {group}. There are: {', '.join(each.name for each in groups)}.")
    if not stream:
        return named
    found = [each for each in named if stream in each.query_names]
    if not found:
        known = ", ".join(name for each in named for name in each.query_names)
        raise UsageError(f"There is no stream {stream}. There are: {known}.")
    return found


def build_group_field(groups: Sequence[StreamGroup]) -> dg.Field:
    """The field `group` of an op's config: the first group, where nobody says another."""
    return dg.Field(str, default_value=groups[0].name, description="The stream group")


def choose_group(groups: Sequence[StreamGroup], group: str, stream: str = "") -> StreamGroup:
    """The group that an op's config names. Raises `dagster.Failure`, with those that there are, for any other name."""
    try:
        [found] = find_groups(groups, group, stream)
    except UsageError as error:
        raise dg.Failure(str(error), allow_retries=False) from None
    return found
