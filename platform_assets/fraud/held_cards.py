"""Which cards are held now.

A card is held while its newest hold is newer than its newest release, by the moment at which the payment was scored. So
an alert of before the release that comes into its table later holds nothing again. Of one moment the release counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from platform_assets.streams.card_holds import CARD_HOLDS
from platform_assets.tables.fraud import CARD_RELEASES

if TYPE_CHECKING:
    from resources.lakehouse import LakehouseResource


@dataclass(frozen=True)
class HeldCard:
    """A card that is held: by its newest alert, since when, and why."""

    card_id: str
    customer_id: str | None
    score_id: str
    since: datetime
    score: float
    reasons: tuple[str, ...]


def list_held(lakehouse: LakehouseResource) -> list[HeldCard]:
    """The cards that are held now, the newest first. Reads both tables whole."""
    found = [HeldCard(
        row["card_id"], row["customer_id"], row["score_id"], row["as_of"], row["score"], tuple(row["reasons"] or ())
    ) for row in find_holds(lakehouse).values()]  # fmt: skip
    return sorted(found, key=lambda each: (each.since, each.card_id), reverse=True)


def find_holds(lakehouse: LakehouseResource) -> dict[str, dict[str, Any]]:
    """The row of `CARD_HOLDS` by which each card is held now, by the card."""
    released, held = find_releases(lakehouse), dict[str, dict[str, Any]]()
    for row in _read(lakehouse, CARD_HOLDS.name):
        is_over = row["card_id"] in released and row["as_of"] <= released[row["card_id"]]["as_of"]
        if not is_over and (row["card_id"] not in held or row["as_of"] > held[row["card_id"]]["as_of"]):
            held[row["card_id"]] = row
    return held


def find_releases(lakehouse: LakehouseResource) -> dict[str, dict[str, Any]]:
    """The newest row of `CARD_RELEASES` of each card that was ever released, by the card."""
    return {row["card_id"]: row for row in sorted(_read(lakehouse, CARD_RELEASES.name), key=lambda row: row["as_of"])}


def _read(lakehouse: LakehouseResource, name: str) -> list[dict[str, Any]]:
    table = lakehouse.find_table(name)
    return [] if table is None else table.to_pyarrow_table().to_pylist()
