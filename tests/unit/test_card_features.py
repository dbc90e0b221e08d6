"""gold.card_features: what is known of each card at a moment, each card once, whatever has been written so far."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pytest
from deltalake import write_deltalake
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.fraud.card_features import CardFeatures
from platform_assets.fraud.card_features_table import CARD_FEATURES
from platform_assets.fraud.card_profiles import MOST_NAMES
from platform_assets.fraud.paced_reading import PacedReading
from platform_assets.streaming.delta.delta_tables import build_arrow_schema
from platform_assets.streaming.delta.table_schema import find_column_breaches
from platform_assets.streams.card_days import CARD_DAYS
from platform_assets.streams.velocity import CARD_VELOCITY
from resources.duckdb import DuckDBResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.generated_cases import examples
from tests.known_cards import DAY, LAG, MIDNIGHT, NOON, histories, know_card, write_gold
from tests.spark.card_cases import MICROSECOND, MINUTE, Transaction, transaction

MOMENTS = [NOON, NOON - LAG, NOON - MICROSECOND, MIDNIGHT, MIDNIGHT + LAG, NOON.replace(second=0), NOON + DAY]


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    resource = DuckDBResource.from_settings(Settings(home=tmp_path_factory.mktemp("home"), reports_memory_mib=256))
    with resource.connected() as opened:
        yield opened


def compute(lakehouse: LakehouseResource, connection: duckdb.DuckDBPyConnection, as_of: datetime) -> dict[str, Any]:
    """The known columns of each card, by the card."""
    rows = CardFeatures(lakehouse, connection).compute(as_of).to_pylist()
    found = {row.pop("card_id"): row for row in rows}
    assert len(found) == len(rows)
    assert {row.pop("as_of") for row in found.values()} <= {as_of}
    assert all(row.pop("computed_at") for row in found.values())
    return {card: {n: dict(v) if "amount" in n and v else v for n, v in row.items() if v is not None}
            for card, row in found.items()}  # fmt: skip


@examples(12, quick=4)
@given(histories(), st.sampled_from(MOMENTS))
def test_rows_are_what_the_payments_before_the_moment_come_to(
    tmp_path_factory: pytest.TempPathFactory,
    connection: duckdb.DuckDBPyConnection,
    transactions: list[Transaction],
    as_of: datetime,
) -> None:
    lakehouse = LakehouseResource(root=str(tmp_path_factory.mktemp("lakehouse")))
    before = [each for each in transactions if each["event_time"] < as_of]
    write_gold(lakehouse, before)
    cards = {each["card_id"]: know_card(before, each["card_id"], as_of) for each in before}
    assert compute(lakehouse, connection, as_of) == {card: known for card, known in cards.items() if known}


def test_before_there_are_tables_no_card_is_known(
    lakehouse: LakehouseResource, connection: duckdb.DuckDBPyConnection
) -> None:
    features = CardFeatures(lakehouse, connection)
    features.write(features.compute(NOON))
    assert lakehouse.delta_table(CARD_FEATURES.name).to_pyarrow_table().num_rows == 0


def test_a_card_with_the_devices_of_many_people_has_none(
    lakehouse: LakehouseResource, connection: duckdb.DuckDBPyConnection
) -> None:
    paid = [
        transaction(card, NOON - DAY, channel="online", device=f"d{n:02}")
        for card, devices in (("c", MOST_NAMES), ("shared", MOST_NAMES + 1))
        for n in range(devices)
    ]
    write_gold(lakehouse, paid)
    found = compute(lakehouse, connection, NOON)
    assert len(found["c"]["devices"]) == MOST_NAMES
    assert "devices" not in found["shared"] and found["shared"]["countries"] == ["DE"]


def test_yesterday_is_read_again_after_it_has_settled(
    lakehouse: LakehouseResource, connection: duckdb.DuckDBPyConnection
) -> None:
    features = CardFeatures(lakehouse, connection)
    first, late = (transaction(card, MIDNIGHT - MINUTE) for card in ("first", "late"))
    write_gold(lakehouse, [first])

    def ask(after_midnight: timedelta) -> set[str]:
        rows = features.compute(MIDNIGHT + after_midnight).to_pylist()
        return {row["card_id"] for row in rows if row["known_days"] is not None}

    assert features.compute(MIDNIGHT - MICROSECOND)["known_days"].to_pylist() == [None]
    assert ask(timedelta(0)) == {"first"}
    write_gold(lakehouse, [first, late])
    assert ask(15 * MINUTE) == {"first", "late"}
    assert ask(DAY) == {"first", "late"}
    assert ask(28 * DAY) == set()


def test_a_history_that_is_being_read_is_known_before_the_hour_is_over(
    lakehouse: LakehouseResource, connection: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("platform_assets.fraud.paced_reading.time.monotonic", lambda: clock[0])
    features, as_of = CardFeatures(lakehouse, connection), NOON
    assert len(features.compute(as_of)) == 0
    for known in (1, 2):
        write_gold(lakehouse, [transaction(f"c{n}", NOON - DAY) for n in range(known)])
        clock[0] += 1
        assert len(features.compute(as_of)) == known


def test_readings_in_between_take_a_hundredth_of_the_time(
    lakehouse: LakehouseResource, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr("platform_assets.fraud.paced_reading.time.monotonic", lambda: clock[0])
    reading = PacedReading(lakehouse, CARD_DAYS)
    assert reading.is_due(NOON) and reading.is_due(NOON), "until it was done"
    clock[0] += 5  # what a reading of 200,000 cards takes
    reading.note()
    assert not reading.is_due(NOON)
    write_gold(lakehouse, [transaction("c", NOON - DAY)])
    clock[0] += 499
    assert not reading.is_due(NOON)
    assert reading.is_due(NOON + 60 * MINUTE), "the usual times stay"
    clock[0] += 2
    assert reading.is_due(NOON)


def test_a_refresh_replaces_all_rows_at_once_and_keeps_few_versions(
    lakehouse: LakehouseResource, connection: duckdb.DuckDBPyConnection
) -> None:
    write_gold(lakehouse, [transaction(f"c{n}", NOON - DAY) for n in range(3)])
    features = CardFeatures(lakehouse, connection)
    for number in range(65):
        features.write(features.compute(NOON + number * timedelta(seconds=10)))
    table = lakehouse.delta_table(CARD_FEATURES.name)
    rows = table.to_pyarrow_table()
    assert sorted(rows["card_id"].to_pylist()) == ["c0", "c1", "c2"]
    assert set(rows["as_of"].to_pylist()) == {NOON + timedelta(seconds=640)}
    assert find_column_breaches(table, CARD_FEATURES) == []
    assert lakehouse.local_root is not None
    files = list((lakehouse.local_root / "gold" / "card_features").glob("*.parquet"))
    assert 30 < len(files) < 40
    # A reader that opened the table a while ago can read what it has opened.
    table.load_as_version(table.version() - 30)
    assert table.to_pyarrow_table().num_rows == 3


def test_files_of_other_windows_are_not_opened(
    lakehouse: LakehouseResource, connection: duckdb.DuckDBPyConnection
) -> None:
    write_gold(lakehouse, [transaction("c", NOON - n * MINUTE) for n in (1, 2)])
    folder = f"{lakehouse.root_uri}/gold/card_velocity"
    table = lakehouse.delta_table(CARD_VELOCITY.name)
    schema = build_arrow_schema(CARD_VELOCITY)
    old = datetime(2020, 1, 1, tzinfo=UTC)
    row = {"window_start": old, "window_end": old + 10 * MINUTE, "card_id": "old", "payment_count": 2}
    before = set(table.file_uris())
    write_deltalake(table, schema.empty_table().from_pylist([row], schema), mode="append")
    table.update_incremental()
    (added,) = set(table.file_uris()) - before
    assert lakehouse.local_root is not None and added.startswith(folder)
    lakehouse.folder.remove(added.removeprefix(f"{lakehouse.root_uri}/"))
    assert compute(lakehouse, connection, NOON)["c"]["recent_payments"] == 2


def test_a_log_has_no_statistics_of_whose_card_it_is() -> None:
    for spec in (CARD_FEATURES, CARD_DAYS):
        assert spec.statistics_columns and not {"card_id", "devices"} & set(spec.statistics_columns)
