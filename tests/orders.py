"""A topic with every type that a field may have: orders of several lines, whose client names itself in an object."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated

import msgspec
from msgspec import Meta

from platform_assets.streaming.topic_spec import EventTime, Record, Topic, digits, epoch, time_format


class State(Enum):
    OPEN = "open"
    PAID = "paid"


class Item(Record):
    sku: str
    price: Annotated[Decimal, digits(8, 2)]
    count: Annotated[int, Meta(ge=1)] = 1


class Order(Record):
    number: str = msgspec.field(name="order-number")
    line: Annotated[int, Meta(ge=0)]
    at: int
    customer: int
    state: State
    total: Annotated[Decimal, digits(8, 2)]
    items: list[Item] = []
    tags: list[str | None] = []
    labels: dict[str, float] = {}
    first: Item | None = None
    placed_on: date | None = None
    paid_at: datetime | None = None
    seen: Annotated[int, epoch("s")] | None = None
    printed: Annotated[str, time_format("%d.%m.%Y %H:%M")] | None = None
    is_gift: bool | None = None
    ratio: Annotated[float, Meta(lt=2.0)] | None = None
    signature: bytes | None = None
    code: Annotated[str, Meta(pattern="^[A-Z]{2}$")] | None = None
    value: str | None = None
    reason: str | None = None
    arrived_at: datetime | None = None
    content: int | None = None
    sender: str | None = None
    device: str | None = msgspec.field(name="client.device", default=None)
    version: int | None = msgspec.field(name="client.app.version", default=None)


def refuse_empty_totals(order: Order) -> tuple[str, str] | None:
    """Judges what a type cannot say: an order that is paid has a total."""
    if order.state is State.PAID and order.total == 0:
        return "paid_nothing", f"the order {order.number} is paid, and its total is 0"
    return None


TOPIC = Topic(
    name="orders",
    description="Orders.",
    kafka_topic="orders",
    record=Order,
    event_time=EventTime("at", unit="ms"),
    event_id=("number", "line"),
    subject="customer",
    event_type="state",
    rules=(refuse_empty_totals,),
)
