"""A person's release of a held card: a row of `platform.card_releases`, and a record in the topic `card-holds`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from platform_assets.errors import BrokerUnavailableError, MissingTopicError, UsageError
from platform_assets.fraud.held_cards import HeldCard, find_holds, find_releases, list_held
from platform_assets.kafka_errors import find_refusal
from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table
from platform_assets.streams.card_holds import HOLDS_TOPIC, RELEASED, STREAM
from platform_assets.tables.fraud import CARD_RELEASES
from resources import librdkafka

if TYPE_CHECKING:
    from confluent_kafka import Producer

    from platform_assets.streaming.derive.published_values import FramedWriter
    from platform_assets.streaming.formats.registered_schema import SchemaTarget
    from resources.kafka import KafkaResource
    from resources.lakehouse import LakehouseResource

_SEND_SECONDS = 15.0

# As Spark places a key: in another partition the release would not replace the hold.
_PARTITIONER = "murmur2_random"


def release_card(
    lakehouse: LakehouseResource,
    kafka: KafkaResource,
    card_id: str,
    by: str,
    reason: str,
    target: SchemaTarget | None = None,
) -> HeldCard | None:
    """Releases a card; returns the hold that is over, None for a card that was released before.

    The table comes first: it says who did it, and the stream that publishes holds looks there. Of a card that was
    released before, the topic is told again. `target` as the stream has it (None: JSON without a schema). Raises
    `UsageError` for a card that is neither, or an empty reason. Raises `BrokerUnavailableError`, and what
    `PublishedValues.open` raises, before anything is written; and the former where the topic did not get it: the card
    is released all the same then, `list_held` says so, and another call tells the topic.
    """
    import pyarrow as pa
    from deltalake import write_deltalake

    if not reason.strip():
        raise UsageError("Say why the card is released: somebody will want to know.")
    held = {each.card_id: each for each in list_held(lakehouse)}
    if card_id not in held:
        if (earlier := find_releases(lakehouse).get(card_id)) is None:
            raise UsageError(f"Card {card_id} is not held. headrace card list has those that are.")
        if (topic := _open_topic(kafka, target)) is not None:
            _publish(topic, earlier)
        return None
    over = held[card_id]
    row = {
        # Not before the hold, whatever this machine's clock says: the card would stay held.
        "card_id": card_id, "as_of": max(datetime.now(UTC), over.since), "state": RELEASED, "by": by,
        "reason": reason, "customer_id": over.customer_id,
    }  # fmt: skip
    # Before anything is written: without a broker nobody is told, and nothing is changed.
    topic = _open_topic(kafka, target)
    table = create_table(lakehouse.table_uri(CARD_RELEASES.name), CARD_RELEASES, lakehouse.storage_options())
    write_deltalake(table, pa.Table.from_pylist([row], build_arrow_schema(CARD_RELEASES)), mode="append")
    if topic is None:
        return over
    _publish(topic, row)
    # An alert of since then may be in the topic before this release: the card is held, and its record has to be last.
    if (newer := find_holds(lakehouse).get(card_id)) is not None:
        _publish(topic, newer)
    return over


def describe_release(card_id: str, over: HeldCard | None) -> str:
    """What `release_card` has done, as a sentence."""
    if over is None:
        return f"Card {card_id} was released before. The topic {HOLDS_TOPIC} has been told once more."
    return f"Card {card_id} is released; it was held since {over.since:%Y-%m-%d %H:%M:%S} UTC."


@dataclass(frozen=True)
class _HoldsTopic:
    """The topic of holds; `writer`: what writes its values, None: they are JSON."""

    producer: Producer
    writer: FramedWriter | None


def _publish(topic: _HoldsTopic, row: Mapping[str, Any]) -> None:
    """Sends a record as `streaming.derive.kafka_publisher` does: it replaces the one before of the same card."""
    from confluent_kafka import KafkaException

    key = json.dumps({"card_id": row["card_id"]}, separators=(",", ":"), ensure_ascii=False)
    value = _write_json(row) if topic.writer is None else topic.writer.write([row])[0]
    errors: list[str] = []
    try:
        topic.producer.produce(
            HOLDS_TOPIC, key=key, value=value, on_delivery=lambda error, _: errors.append(str(error)) if error else None
        )
        librdkafka.flush(topic.producer, _SEND_SECONDS)
    except KafkaException as error:  # of a producer that has ended for good
        errors.append(str(error.args[0]))
    if errors or len(topic.producer):
        refused = find_refusal("".join(errors), "Write", f"topic {HOLDS_TOPIC}", "the release of a card")
        raise BrokerUnavailableError(
            f"Card {row['card_id']} is released in {CARD_RELEASES.name}, and the topic {HOLDS_TOPIC} was not told: "
            f"{refused or 'no broker took the record.'} The same command tells it once more."
        )


def _open_topic(kafka: KafkaResource, target: SchemaTarget | None) -> _HoldsTopic | None:
    """The topic; None where there is none: with HEADRACE_PUBLISH=false nobody makes it, and nobody reads it."""
    from platform_assets.streaming.derive.published_values import PublishedValues

    try:
        if not kafka.partitions(HOLDS_TOPIC):
            return None
    except MissingTopicError:
        return None
    writer = None if target is None else PublishedValues(STREAM, target).open()
    return _HoldsTopic(kafka.producer(partitioner=_PARTITIONER), writer)


def _write_json(row: Mapping[str, Any]) -> bytes:
    value = {name: _as_text(each) if isinstance(each, datetime) else each for name, each in row.items()}
    return json.dumps(value).encode()


def _as_text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
