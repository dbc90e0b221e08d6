"""A real Postgres for the tests of sinks, a table that is to be kept in step in it, and its sink."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from platform_assets.sinks.sink import Sink
from resources.duckdb import DuckDBResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.integration.postgres_server import find_binaries, running_postgres
from tests.unit.sinks.sunk_table import SPEC, SunkTable, fresh_database


@pytest.fixture(scope="package")
def port() -> Iterator[int]:
    if find_binaries() is None:
        pytest.skip("Debian's package postgresql is not installed")
    with running_postgres() as found:
        yield found


@pytest.fixture
def table(port: int, lakehouse: LakehouseResource, settings: Settings) -> Iterator[SunkTable]:
    with fresh_database(port) as url:
        yield SunkTable(lakehouse, url, DuckDBResource.from_settings(settings))


@pytest.fixture
def sink(table: SunkTable) -> Iterator[Sink]:
    opened = table.open_sink()
    yield opened
    opened.close()


@pytest.fixture
def group_settings(table: SunkTable, settings: Settings) -> Settings:
    values = {"postgres_url": table.url, "postgres_tables": SPEC.name, "lakehouse": table.lakehouse.root}
    return Settings.model_validate({"home": settings.home, "kafka_bootstrap_servers": "", **values})
