"""Devices of reported cards: what was known before each day and nothing later, in training and where payments pass."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import duckdb
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.fraud.fraud_devices import MOST_DEVICES, FraudDevices
from platform_assets.fraud.scoring import FraudScoring
from platform_assets.fraud.training_rows import read_training_rows
from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table
from platform_assets.streaming.delta.table_schema import find_column_breaches
from platform_assets.tables.fraud import FRAUD_SERVING
from platform_assets.topics.fraud_reports import FRAUD_REPORTS
from resources.duckdb import DuckDBResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.generated_cases import examples
from tests.known_cards import DAY, LAG, MIDNIGHT, NOON, histories, write_gold, write_transactions
from tests.spark.card_cases import MICROSECOND, MINUTE, Transaction, transaction

HOUR = timedelta(hours=1)
LATER = NOON + 30 * DAY

# Which transaction, what is said of it, and when.
Report = tuple[int, str, datetime]


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    resource = DuckDBResource.from_settings(Settings(home=tmp_path_factory.mktemp("home"), reports_memory_mib=256))
    with resource.connected() as opened:
        yield opened


def write_reports(lakehouse: LakehouseResource, paid: Sequence[Transaction], reports: Sequence[Report]) -> None:
    rows = [
        {
            "report_id": f"r{n}", "transaction_id": f"t{of}", "verdict": verdict, "event_time": at,
            "event_date": at.date(), "card_id": paid[of]["card_id"], "customer_id": "u", "source": "customer",
            "topic": "r", "kafka_partition": 0, "kafka_offset": n, "kafka_timestamp": at, "ingested_at": at,
            "is_anonymous": False,
        }
        for n, (of, verdict, at) in enumerate(reports)
    ]  # fmt: skip
    table = create_table(lakehouse.table_uri(FRAUD_REPORTS.name), FRAUD_REPORTS)
    write_deltalake(table, pa.Table.from_pylist(rows, build_arrow_schema(FRAUD_REPORTS)), mode="append")


def make_lakehouse(folder: Any, paid: Sequence[Transaction], reports: Sequence[Report]) -> LakehouseResource:
    lakehouse = LakehouseResource(root=str(folder))
    write_transactions(lakehouse, paid)
    write_gold(lakehouse, paid)
    write_reports(lakehouse, paid, reports)
    return lakehouse


def count_by_hand(paid: Sequence[Transaction], reports: Sequence[Report], as_of: datetime) -> dict[str, int]:
    """The oracle: links and verdicts as plain Python reads them."""
    day = as_of.replace(hour=0, minute=0, second=0, microsecond=0)
    newest: dict[int, tuple[datetime, bool]] = {}
    for of, verdict, at in reports:
        if day - 28 * DAY <= at < day:
            newest[of] = max(newest.get(of, (at, False)), (at, verdict == "fraud"))
    reported = {paid[of]["card_id"] for of, (_, is_fraud) in newest.items() if is_fraud}
    links = defaultdict(set)
    for each in paid:
        is_own = each["channel"] in ("online", "recurring") and each["kind"] == "payment"
        if is_own and each["device"] is not None and day - 28 * DAY <= each["event_time"] < day:
            links[each["device"]].add(each["card_id"])
    return {device: len(cards & reported) for device, cards in links.items() if cards & reported}


REPORTED_AT = [
    MIDNIGHT - MICROSECOND, MIDNIGHT, MIDNIGHT + MICROSECOND, MIDNIGHT - DAY, MIDNIGHT + DAY, MIDNIGHT + DAY - HOUR,
    MIDNIGHT - 28 * DAY, MIDNIGHT - 28 * DAY - MICROSECOND, MIDNIGHT - 10 * DAY, NOON, LATER + DAY,
]  # fmt: skip


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[Transaction], list[Report]]:
    """Histories of cards, and reports of some of their transactions; two may be of one moment."""
    paid = draw(histories())
    verdicts = st.sampled_from(["fraud", "fraud", "no_fraud"])
    reports = st.tuples(st.integers(0, len(paid) - 1), verdicts, st.sampled_from(REPORTED_AT))
    return paid, draw(st.lists(reports, min_size=3, max_size=25))


@examples(15, quick=4)
@given(cases())
def test_rows_count_what_was_reported_before_their_day(
    tmp_path_factory: pytest.TempPathFactory,
    connection: duckdb.DuckDBPyConnection,
    case: tuple[list[Transaction], list[Report]],
) -> None:
    paid, reports = case
    lakehouse = make_lakehouse(tmp_path_factory.mktemp("lakehouse"), paid, reports)
    rows = read_training_rows(lakehouse, connection, LATER).to_pylist()
    assert len(rows) == len(paid)
    for row in rows:
        each = paid[int(row["transaction_id"][1:])]
        counts = count_by_hand(paid, reports, each["event_time"] - LAG)
        has_device = each["channel"] in ("online", "recurring") and each["device"] is not None
        assert row["device_fraud_cards"] == (float(counts.get(each["device"], 0)) if has_device else None)
    for as_of in (NOON, MIDNIGHT, MIDNIGHT - MICROSECOND, MIDNIGHT + DAY):
        assert FraudDevices(lakehouse, connection).read(as_of) == count_by_hand(paid, reports, as_of)


@examples(6, quick=2)
@given(cases())
def test_what_comes_after_the_beginning_of_a_day_changes_nothing_on_it(
    tmp_path_factory: pytest.TempPathFactory,
    connection: duckdb.DuckDBPyConnection,
    case: tuple[list[Transaction], list[Report]],
) -> None:
    paid, reports = case
    then = [each for each in paid if each["event_time"] < MIDNIGHT + DAY]
    known = [each for each in reports if each[2] < MIDNIGHT and each[0] < len(then)]
    order = sorted(range(len(paid)), key=lambda place: paid[place]["event_time"] >= MIDNIGHT + DAY)
    paid = [paid[place] for place in order]
    later = [each for each in reports if each[2] >= MIDNIGHT]
    early, whole = (
        make_lakehouse(tmp_path_factory.mktemp("lakehouse"), *each) for each in ((then, known), (paid, known + later))
    )
    before, since = (
        {
            row["transaction_id"]: row["device_fraud_cards"]
            for row in read_training_rows(of, connection, LATER).to_pylist()
        }
        for of in (early, whole)
    )
    assert before and before.items() <= since.items()


def pay_online(card: str, device: str, at: datetime) -> Transaction:
    return transaction(card, at, channel="online", device=device)


def test_of_too_many_devices_those_stay_that_have_most_cards_and_were_used_last(
    lakehouse: LakehouseResource, connection: duckdb.DuckDBPyConnection
) -> None:
    days = [(f"d{n:04}", MIDNIGHT - DAY) for n in range(MOST_DEVICES - 1)]
    days += [(f"old {n}", MIDNIGHT - 2 * DAY) for n in range(3)] + [("busy", MIDNIGHT - 20 * DAY)]
    paid = [pay_online("c", device, at) for device, at in days] + [pay_online("b", "busy", MIDNIGHT - 20 * DAY)]
    write_gold(lakehouse, paid)
    write_reports(lakehouse, paid, [(0, "fraud", MIDNIGHT - HOUR), (len(paid) - 1, "fraud", MIDNIGHT - HOUR)])
    found = FraudDevices(lakehouse, connection).read(NOON)
    assert found == {f"d{n:04}": 1 for n in range(MOST_DEVICES - 1)} | {"busy": 2}


def test_counts_are_read_again_with_the_profiles_and_are_unknown_once_they_are_old(
    lakehouse: LakehouseResource, connection: duckdb.DuckDBPyConnection
) -> None:
    devices = FraudDevices(lakehouse, connection)
    assert devices.read(NOON) == {}
    paid = [pay_online("a", "d", MIDNIGHT - DAY), pay_online("b", "d", MIDNIGHT - DAY)]
    write_gold(lakehouse, paid)
    write_reports(lakehouse, paid, [(0, "fraud", MIDNIGHT - HOUR), (1, "fraud", MIDNIGHT + HOUR)])
    assert devices.read(NOON + MINUTE) == {}
    assert devices.read(NOON + HOUR) == {"d": 1}
    # Rows that cannot be read: what is known goes on, for a part of the next day.
    assert lakehouse.local_root is not None
    (file,) = (lakehouse.local_root / "gold" / "card_days").glob("*.parquet")
    kept = file.read_bytes()
    file.unlink()
    assert devices.read(MIDNIGHT + DAY) == {"d": 1}
    assert devices.read(MIDNIGHT + DAY + 6 * HOUR) is None
    file.write_bytes(kept)
    assert devices.read(MIDNIGHT + DAY + 6 * HOUR + MINUTE) == {"d": 2}


def make_scoring(lakehouse: LakehouseResource) -> FraudScoring:
    """The relay's driver, of which only what it asks the lakehouse is run."""
    ingest = {"score_payments": SimpleNamespace(topic="card-transactions")}
    root = str(lakehouse.local_root)
    context = SimpleNamespace(
        ingest=ingest, lakehouse_root=root, checkpoint_uri=lambda table: f"{root}/_checkpoints/{table}",
        storage_options={},
    )  # fmt: skip
    return FraudScoring(cast("Any", context), "scores", "alerts")


def read_serving(lakehouse: LakehouseResource) -> tuple[int, dict[str, Any]]:
    """The version of the table, and its row."""
    table = lakehouse.delta_table(FRAUD_SERVING.name)
    assert find_column_breaches(table, FRAUD_SERVING) == []
    (row,) = table.to_pyarrow_table().to_pylist()
    return table.version(), row


def test_the_row_that_each_batch_reads_has_them_and_is_written_when_they_change(
    lakehouse: LakehouseResource, now: datetime
) -> None:
    older = build_arrow_schema(FRAUD_SERVING).remove(len(FRAUD_SERVING.columns) - 1)
    row = {"topic": "card-transactions", "champion": 7, "shadow": None, "threshold": 0.5}
    write_deltalake(lakehouse.table_uri(FRAUD_SERVING.name), pa.Table.from_pylist([row], older))
    paid = [pay_online("a", "d", now - 2 * DAY)]
    write_gold(lakehouse, paid)
    write_reports(lakehouse, paid, [(0, "fraud", now - 2 * DAY)])
    scoring = make_scoring(lakehouse)
    try:
        scoring.refresh()
        version, row = read_serving(lakehouse)
        assert (row["champion"], row["fraud_devices"]) == (None, [("d", 1)])
        scoring.refresh()
        assert read_serving(lakehouse)[0] == version
    finally:
        scoring.close()
    # Forgotten: the card has left the tables that it is read from.
    write_gold(lakehouse, [pay_online("b", "other", now - 2 * DAY)])
    scoring = make_scoring(lakehouse)
    try:
        scoring.refresh()
        assert read_serving(lakehouse)[1]["fraud_devices"] == []
    finally:
        scoring.close()


def test_tables_that_cannot_be_read_leave_devices_unknown_and_scores_go_on(
    lakehouse: LakehouseResource, now: datetime
) -> None:
    paid = [pay_online("a", "d", now - 2 * DAY)]
    write_gold(lakehouse, paid)
    write_reports(lakehouse, paid, [(0, "fraud", now - 2 * DAY)])
    assert lakehouse.local_root is not None
    for file in (lakehouse.local_root / "silver" / "fraud_reports").rglob("*.parquet"):
        file.unlink()
    scoring = make_scoring(lakehouse)
    try:
        scoring.refresh()
        assert read_serving(lakehouse)[1]["fraud_devices"] is None
    finally:
        scoring.close()


@pytest.fixture
def now() -> datetime:
    """The clock's time, which the relay's driver goes by."""
    return datetime.now(UTC)
