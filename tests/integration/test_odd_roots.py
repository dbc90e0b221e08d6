"""A lakehouse at a path that other programs would take for a pattern, an address or something quoted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.operations.explain import explain
from platform_assets.streams import load_streams
from resources.kafka import KafkaResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.integration.streams_under_test import StreamsUnderTest, build_purchases


@pytest.mark.release
@pytest.mark.parametrize("folder", ["all*", "a{b,c}", "it's 50%off é", "a:b;c&d=e+f"])
def test_streams_write_and_everybody_reads(
    spark: Any, kafka: KafkaResource, settings: Settings, tmp_path: Path, topic: Callable[..., str], folder: str
) -> None:
    (tmp_path / "allowed").mkdir()  # which `all*` would find
    lakehouse = LakehouseResource(root=str(tmp_path / folder))
    lakehouse.check_writable()
    streams = StreamsUnderTest.build(spark, kafka, lakehouse, settings, topic(1))
    for number in range(2):
        streams.send(build_purchases(number))
        streams.drain("events", "sessions")
    assert lakehouse.delta_table("silver.events").to_pyarrow_table().num_rows == 40
    assert streams.rows("silver.events", "select count(*) n from t where user_id = 'u3'") == [{"n": 2}]
    said = "\n".join(explain(load_streams(), lakehouse, kafka, event_id="1-7"))
    assert "is event 1-7 of" in said and "In the state of sessions" in said
    assert sorted(path.name for path in (tmp_path / folder).iterdir() if not path.name.startswith(".")) == [
        "_checkpoints", "gold", "platform", "silver",
    ]  # fmt: skip
