from __future__ import annotations

from collections.abc import Callable

import pytest

from resources.duckdb import DuckDBResource
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.unit.publishing.published_table import PublishedTable


@pytest.fixture
def published(
    kafka: KafkaResource, lakehouse: LakehouseResource, settings: Settings, topic: Callable[..., str]
) -> PublishedTable:
    """A table that nobody has written yet, and its topic."""
    return PublishedTable(kafka, lakehouse, DuckDBResource.from_settings(settings), topic(3))
