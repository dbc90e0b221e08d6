"""The proof that nothing was lost follows each materialization of a stream's table, in one run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import dagster as dg

from jobs.definitions.asset_checks import build_ledger_sensor
from platform_assets.checks import build_checks
from platform_assets.stream_assets import build_stream_assets
from platform_assets.streams import load_stream_groups, load_streams

STREAMS = load_streams()
KEYS = {dg.AssetCheckKey(dg.AssetKey(stream.main_table.asset_path), "ledger") for stream in STREAMS}
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def test_each_materialization_is_proved_once() -> None:
    nothing = dg.ResourceDefinition.hardcoded_resource(None)
    sensor = build_ledger_sensor(STREAMS)
    definitions = dg.Definitions(
        assets=build_stream_assets(load_stream_groups(), "t"),
        asset_checks=build_checks(STREAMS, "t", "duckdb"),
        sensors=[sensor],
        resources={"duckdb": nothing, "lakehouse": nothing, "kafka": nothing},
    )
    assert sensor.asset_selection.resolve_checks(definitions.resolve_asset_graph()) == KEYS
    with dg.instance_for_test() as instance:
        cursor, asked = None, []
        for minute, materialized in enumerate([(), STREAMS, STREAMS[:1], (), STREAMS[:1], ()]):
            for stream in materialized:
                instance.report_runless_asset_event(dg.AssetMaterialization(dg.AssetKey(stream.main_table.asset_path)))
            result = dg.evaluate_automation_conditions(
                definitions, instance, sensor.asset_selection, NOW + timedelta(minutes=minute), cursor=cursor
            )
            cursor = result.cursor
            asked.append({found.key for found in result.results if found.true_subset.size})
    of_events = {dg.AssetCheckKey(dg.AssetKey(["silver", "events"]), "ledger")}
    assert asked == [set(), KEYS, of_events, set(), of_events, set()]
