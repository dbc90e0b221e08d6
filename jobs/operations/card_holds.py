"""Which cards are held, and a person's release: a row of `platform.card_releases`, and a record in `card-holds`.

A card is held while its newest hold is newer than its newest release, by the moment at which the payment was scored. So
an alert of before the release that comes into its table later holds nothing again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from platform_assets.errors import BrokerUnavailableError, UsageError
from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table
from platform_assets.streams.card_holds import CARD_HOLDS, HOLDS_TOPIC, RELEASED
from platform_assets.tables.fraud import CARD_RELEASES

if TYPE_CHECKING:
    from resources.kafka import KafkaResource
    from resources.lakehouse import LakehouseResource

_SEND_SECONDS = 15.0


@dataclass(frozen=True)
class HeldCard:
    """A card that is held: by its newest alert, since when, and why."""

    card_id: str
    score_id: str
    since: datetime
    score: float
    reasons: tuple[str, ...]


def list_held(lakehouse: LakehouseResource) -> list[HeldCard]:
    """The cards that are held now, the newest first. Reads both tables whole."""
    released: dict[str, datetime] = {}
    for row in _read(lakehouse, CARD_RELEASES.name):
        released[row["card_id"]] = max(row["as_of"], released.get(row["card_id"], row["as_of"]))
    held: dict[str, Mapping[str, Any]] = {}
    for row in _read(lakehouse, CARD_HOLDS.name):
        is_over = row["card_id"] in released and row["as_of"] <= released[row["card_id"]]
        if not is_over and (row["card_id"] not in held or row["as_of"] > held[row["card_id"]]["as_of"]):
            held[row["card_id"]] = row
    newest = sorted(held.values(), key=lambda row: (row["as_of"], row["card_id"]), reverse=True)
    return [
        HeldCard(row["card_id"], row["score_id"], row["as_of"], row["score"], tuple(row["reasons"] or ()))
        for row in newest
    ]


def release_card(lakehouse: LakehouseResource, kafka: KafkaResource, card_id: str, by: str, reason: str) -> HeldCard:
    """Releases a card; returns the hold that is over.

    The table comes first: it says who did it. Raises `UsageError` for a card that is not held, and
    `BrokerUnavailableError` where the topic did not get it: the card is released all the same, and `list_held` says so.
    """
    import pyarrow as pa
    from deltalake import write_deltalake

    held = {each.card_id: each for each in list_held(lakehouse)}
    if card_id not in held:
        raise UsageError(f"Card {card_id} is not held. headrace card list has those that are.")
    row = {"card_id": card_id, "as_of": datetime.now(UTC), "state": RELEASED, "by": by, "reason": reason}
    table = create_table(lakehouse.table_uri(CARD_RELEASES.name), CARD_RELEASES, lakehouse.storage_options())
    write_deltalake(table, pa.Table.from_pylist([row], build_arrow_schema(CARD_RELEASES)), mode="append")
    _publish(kafka, row)
    return held[card_id]


def _publish(kafka: KafkaResource, row: Mapping[str, Any]) -> None:
    value = {**row, "as_of": row["as_of"].isoformat(timespec="microseconds").replace("+00:00", "Z")}
    producer = kafka.producer()
    # As `streaming.derive.kafka_publisher` writes the key of a hold: the newest record of a card replaces the others.
    key = json.dumps({"card_id": row["card_id"]}, separators=(",", ":"))
    producer.produce(HOLDS_TOPIC, key=key, value=json.dumps(value))
    if producer.flush(_SEND_SECONDS):
        raise BrokerUnavailableError(
            f"Card {row['card_id']} is released in {CARD_RELEASES.name}, and the topic {HOLDS_TOPIC} was not told: no "
            "broker took the record. Tell those who read the topic."
        )


def _read(lakehouse: LakehouseResource, name: str) -> list[dict[str, Any]]:
    table = lakehouse.find_table(name)
    return [] if table is None else table.to_pyarrow_table().to_pylist()
