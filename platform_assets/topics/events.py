"""Topic `events`: what happens in a shop, a JSON object a record. HEADRACE_TOPIC is its name on the broker."""

from __future__ import annotations

import dataclasses
import math
import re
from decimal import Decimal
from typing import Annotated, Literal

from msgspec import Meta

from platform_assets.streaming.event_rules import BLANKS
from platform_assets.streaming.record_types import INT32_MAX
from platform_assets.streaming.topic_spec import EventTime, Record, Topic
from resources.settings import Settings

EventType = Literal["page_view", "add_to_cart", "remove_from_cart", "purchase"]


class Event(Record):
    """One event as the shop sends it. docs/changing-the-events.md adds a field."""

    event_id: Annotated[str, Meta(description="The event's own id; unique within the deduplication horizon")]
    event_type: Annotated[EventType, Meta(description="page_view, add_to_cart, remove_from_cart or purchase")]
    timestamp: Annotated[str, Meta(description="When it happened, as the shop says")]
    user_id: Annotated[str, Meta(description="Who")]
    product_id: Annotated[str | None, Meta(description="Which product")] = None
    product_name: Annotated[str | None, Meta(description="The product's name")] = None
    category: Annotated[str | None, Meta(description="The product's category")] = None
    price: Annotated[float, Meta(description="Unit price", ge=0)] | None = None
    quantity: Annotated[int, Meta(description="Units", ge=0, le=INT32_MAX)] | None = None
    session_id: Annotated[str | None, Meta(description="The shop's own session id")] = None
    device_type: Annotated[str | None, Meta(description="Device")] = None
    country: Annotated[str | None, Meta(description="Country")] = None
    revenue: Annotated[float, Meta(description="Revenue as it was sent; null where none was", ge=0)] | None = None
    currency: (
        Annotated[
            str,
            Meta(
                description="Currency of price and revenue, three capitals; null where none was sent",
                # The spelling that `spell_currency` leaves.
                pattern=r"^[A-Z]{3}\Z",
            ),
        ]
        | None
    ) = None


def spell_currency(text: str) -> str | None:
    """A currency's code in capitals and without blanks around it, as ISO 4217 spells it; a blank one is none.

    Whether there is such a currency is not judged. Raises `ValueError` for other than three letters.
    """
    code = text.strip(BLANKS)
    if code and not re.fullmatch("[A-Za-z]{3}", code):
        raise ValueError(f"currency is no code of three letters: {text!r}")
    return code.upper() or None


def fill_revenue(event: Event) -> None:
    """Gives a purchase that was sent without revenue its price, in the digits in which it was sent, times its quantity.

    One where no quantity was sent; none without a price, and where a double does not hold it.
    """
    if event.revenue is None and event.event_type == "purchase" and event.price is not None:
        product = float(Decimal(repr(event.price)) * (1 if event.quantity is None else event.quantity))
        event.revenue = product if math.isfinite(product) else None


TOPIC = Topic(
    name="events",
    description="Accepted shop events: typed, validated, deduplicated by arrival, however late.",
    record=Event,
    event_time=EventTime("timestamp"),
    event_id=("event_id",),
    subject="user_id",
    event_type="event_type",
    kafka_topic="",
    spellings={"currency": spell_currency},
    added_fields=("currency",),
    # Older code had 0 where no revenue was sent.
    compared_as={"revenue": "coalesce(revenue, 0)"},
)
EVENTS, QUARANTINED_EVENTS, DEDUPLICATED_EVENTS = TOPIC.tables


def build_topic(settings: Settings) -> Topic:
    """The topic; HEADRACE_REVENUE_FROM_PRICE has revenue filled in."""
    return dataclasses.replace(TOPIC, complete=fill_revenue if settings.revenue_from_price else None)
