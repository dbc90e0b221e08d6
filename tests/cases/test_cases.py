"""Each case of `cases.CASES` over a real broker and a real Spark."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from platform_assets.delta_reader import register_pinned
from platform_assets.streaming.delta.delta_tables import open_table
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.cases.cases import CASES, Case
from tests.integration.streams_under_test import StreamsUnderTest


@pytest.fixture
def streams(
    spark: Any, kafka: KafkaResource, lakehouse: LakehouseResource, settings: Settings, topic: Callable[..., str]
) -> StreamsUnderTest:
    return StreamsUnderTest.build(spark, kafka, lakehouse, settings, topic(3))


@pytest.mark.long
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "_"))
def test_the_outcome_is_right(streams: StreamsUnderTest, case: Case) -> None:
    context = dataclasses.replace(streams.context, **case.settings)
    streams = dataclasses.replace(streams, context=context)
    for part in case.parts:
        streams.send([json.dumps(event).encode() for event in part])
        streams.drain("events", *case.streams)
    root = Path(context.lakehouse_root)
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        for log in root.glob("*/*/_delta_log"):
            name = "_".join(log.parent.relative_to(root).parts)
            register_pinned(connection, name, open_table(str(log.parent)))
        for query, rows in case.outcome.items():
            assert connection.sql(query).fetchall() == list(rows), query
