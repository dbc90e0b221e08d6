"""How far the streams are that `gold.card_features` is made of: what they have not read is not known of any card."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from platform_assets.errors import CheckpointMismatchError
from platform_assets.streaming.checkpoint.checkpoint import Checkpoint
from platform_assets.streaming.moments import EPOCH, at_micros
from platform_assets.streams.spend_by_card import SPEND_BY_CARD
from platform_assets.streams.velocity import CARD_VELOCITY

if TYPE_CHECKING:
    from platform_assets.streaming.context import StreamContext

# Not `gold.card_days`: a profile ends with the day before, which these two have left behind long ago.
_TABLES = (CARD_VELOCITY.name, SPEND_BY_CARD.name)


def open_checkpoints(context: StreamContext) -> tuple[Checkpoint, ...]:
    """The checkpoints of the streams that say what a card has paid within the hour."""
    return tuple(Checkpoint.of(context, table) for table in _TABLES)


def find_reached(checkpoints: Sequence[Checkpoint]) -> datetime | None:
    """The moment (UTC) up to which all of these queries over a table have read what was sent on time.

    It is the frontier of their newest finished batches; None before the first one. Of a checkpoint that is incomplete
    nobody can say how far its query is: then it is 1970, and what is known counts as old. Raises `OSError` where a
    checkpoint cannot be read.
    """
    try:
        plans = [found[1] for each in checkpoints if (found := each.read_last_plan()) is not None]
    except CheckpointMismatchError:
        return EPOCH
    reached = [plan.source["frontier"] for plan in plans if plan.source["frontier"] is not None]
    return at_micros(min(reached)) if reached else None
