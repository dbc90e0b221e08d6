"""The live page of a lakehouse in S3 whose server goes away and comes back, with a viewer on."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from deltalake import write_deltalake

from jobs.page.page_reader import PageReader
from jobs.page.panels import load_panels
from jobs.page.server import build_app, serving_page
from platform_assets.streaming.delta.delta_tables import create_table
from platform_assets.streams import load_stream_groups
from platform_assets.topics.events import EVENTS
from resources.duckdb import DuckDBResource
from resources.lakehouse import LakehouseResource
from tests.integration.s3_lakehouse import build_settings
from tests.s3_server import BUCKET, running_s3
from tests.spark.report_cases import event, events_table
from tests.unit.test_page_server import Viewer, read_nothing


@pytest.mark.release
def test_numbers_stand_while_the_store_is_away_and_go_on_by_themselves(tmp_path: Path) -> None:
    with running_s3() as server:
        settings = build_settings(tmp_path / "home", f"s3://{BUCKET}/lake", server.options)
        lakehouse = LakehouseResource.from_settings(settings)
        table = create_table(lakehouse.table_uri(EVENTS.name), EVENTS, lakehouse.storage_options())

        def sell(number: int, revenue: float) -> None:
            sold = [event("u", datetime.now(UTC), "purchase", f"p{number}", revenue=revenue, currency="EUR")]
            write_deltalake(table, events_table(sold, number), mode="append")

        sell(1, 12.5)
        reader = PageReader(lakehouse, DuckDBResource.from_settings(settings), load_panels(), load_stream_groups())
        with closing(reader), serving_page(build_app(reader, load_panels(), read_nothing), 0) as port:
            viewer = Viewer(port)
            viewer.read_until("12.50")
            sell(2, 77.25)
            viewer.read_until("77.25")
            server.stop()
            stands = viewer.read_until("does not answer")
            assert not stands["is_live"] and "as of 20" in stands["status"] and "Traceback" not in stands["status"]
            server.start()
            assert viewer.read_until("Live")["is_live"]
            sell(3, 31.75)
            viewer.read_until("31.75")
            viewer.close()
