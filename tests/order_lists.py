"""The topic of orders as batched producers send it: each Kafka record holds a JSON list of orders."""

from __future__ import annotations

import dataclasses

from platform_assets.streaming.topic_spec import JsonValues
from tests import orders

TOPIC = dataclasses.replace(
    orders.TOPIC, name="order_lists", kafka_topic="order-lists", values=JsonValues(is_list=True)
)  # fmt: skip
