"""The page of fraud alerts: what it reads, next to plain Python; what it shows of text that somebody sent."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.definitions import defs
from platform_assets.fraud.alerts_page import ALERTS_PAGE
from platform_assets.fraud.page_asset import ALERTS_PAGE_KEY
from platform_assets.fraud.shown_alerts import MOST_ALERTS, MOST_PAYMENTS, ShownAlert, read_alerts
from platform_assets.streaming.delta.delta_tables import build_arrow_schema, create_table
from platform_assets.streams.card_holds import CARD_HOLDS
from platform_assets.streams.fraud_alerts import FRAUD_ALERTS
from platform_assets.tables.fraud import CARD_RELEASES
from platform_assets.tables.spec import TableSpec
from platform_assets.topics.fraud_reports import FRAUD_REPORTS
from platform_assets.topics.transactions import TRANSACTIONS
from resources.lakehouse import LakehouseResource
from resources.settings import load_settings
from tests.generated_cases import examples

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOSTILE = "</td><script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{ 7 * 7 }}|\n\u202eabc"


def write(lakehouse: LakehouseResource, spec: TableSpec, rows: list[dict[str, Any]]) -> None:
    table = create_table(lakehouse.table_uri(spec.name), spec)
    write_deltalake(table, pa.Table.from_pylist(rows, build_arrow_schema(spec)), mode="append")


def read(lakehouse: LakehouseResource) -> list[ShownAlert]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return read_alerts(lakehouse, connection)


def make_payment(number: int, card: str, at: datetime, **changes: Any) -> dict[str, Any]:
    return {
        "transaction_id": f"t{number}", "kind": "payment", "event_time": at, "event_date": at.date(), "card_id": card,
        "merchant_id": "m1", "merchant_category": "travel", "amount": Decimal("12.50"), "currency": "EUR",
        "country": "FR", "channel": "online",
    } | changes  # fmt: skip


def make_alert(payment: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    names = ("event_time", "card_id", "kind", "merchant_id", "amount", "currency", "country")
    own = {name: payment[name] for name in names}
    scored = {"score": 0.9, "model_version": 3, "reasons": ["first words"], "scored_at": payment["event_time"]}
    return {"score_id": payment["transaction_id"], **own, **scored} | changes


# Of a card: hours at which it pays, whether that is an alert; reports and holds; all over three days.
HOURS = st.integers(0, 72)
PAYMENTS = st.lists(st.tuples(st.sampled_from("abc"), HOURS, st.booleans()), min_size=1, max_size=60)
REPORTS = st.lists(st.tuples(st.integers(0, 59), HOURS, st.sampled_from(["fraud", "no_fraud"])), max_size=8)
HOLDS = st.lists(st.tuples(st.sampled_from("abc"), HOURS, st.booleans()), max_size=8)


@examples(25)
@given(PAYMENTS, REPORTS, HOLDS)
def test_what_is_shown_is_what_plain_python_finds(
    paid: list[tuple[str, int, bool]], reported: list[tuple[int, int, str]], holds: list[tuple[str, int, bool]]
) -> None:
    def at(hour: int) -> datetime:
        return NOON + timedelta(hours=hour)

    payments = [make_payment(number, card, at(hour)) for number, (card, hour, _) in enumerate(paid)]
    alerts = [make_alert(payment) for payment, (_, _, is_alert) in zip(payments, paid, strict=True) if is_alert]
    reports = [
        {"report_id": f"r{n}", "transaction_id": f"t{of}", "card_id": payments[of]["card_id"], "event_time": at(hour),
         "event_date": at(hour).date(), "verdict": verdict, "source": "customer"}
        for n, (of, hour, verdict) in enumerate(reported) if of < len(payments)
    ]  # fmt: skip
    states = [
        ({"card_id": card, "as_of": at(hour), "score_id": f"h{n}", "score": 0.9}, is_hold)
        for n, (card, hour, is_hold) in enumerate(holds)
    ]
    with tempfile.TemporaryDirectory() as folder:
        lakehouse = LakehouseResource(root=folder)
        write(lakehouse, TRANSACTIONS, payments)
        write(lakehouse, FRAUD_ALERTS, alerts)
        write(lakehouse, FRAUD_REPORTS, reports)
        write(lakehouse, CARD_HOLDS, [row for row, is_hold in states if is_hold])
        over = [{"card_id": row["card_id"], "as_of": row["as_of"]} for row, is_hold in states if not is_hold]
        write(lakehouse, CARD_RELEASES, over)
        shown = read(lakehouse)

    newest_first = sorted(alerts, key=lambda row: (-row["scored_at"].timestamp(), row["score_id"]))
    assert [each.alert["score_id"] for each in shown] == [row["score_id"] for row in newest_first]
    for each, alert in zip(shown, newest_first, strict=True):
        card, moment = alert["card_id"], alert["event_time"]
        before = [
            p for p in payments
            if p["card_id"] == card and moment - timedelta(days=1) < p["event_time"] <= moment
            and p["transaction_id"] != alert["score_id"]
        ]  # fmt: skip
        before.sort(key=lambda p: (-p["event_time"].timestamp(), p["transaction_id"]))
        assert [p["transaction_id"] for p in each.before] == [p["transaction_id"] for p in before[:MOST_PAYMENTS]]
        assert each.before_count == len(before)
        assert each.payment is not None and each.payment["transaction_id"] == alert["score_id"]
        since = [
            r for r in reports
            if r["transaction_id"] == alert["score_id"] or (r["card_id"] == card and r["event_time"] >= moment)
        ]  # fmt: skip
        assert sorted((r["transaction_id"], r["event_time"], r["verdict"]) for r in each.reports) == sorted(
            (r["transaction_id"], r["event_time"], r["verdict"]) for r in since
        )
        own = [r for r in since if r["transaction_id"] == alert["score_id"]]
        last = max((r["event_time"] for r in own), default=None)
        assert each.verdict in ({r["verdict"] for r in own if r["event_time"] == last} or {None})
        mine: list[tuple[bool, Any]] = [(is_hold, row["as_of"]) for row, is_hold in states if row["card_id"] == card]
        holding = max((moment for is_hold, moment in mine if is_hold), default=None)
        released = max((moment for is_hold, moment in mine if not is_hold), default=None)
        is_held = holding is not None and (released is None or holding > released)
        assert each.held_since == (holding if is_held else None)


def test_the_newest_alerts_are_shown_and_the_busiest_cards_last_payments(tmp_path: Path) -> None:
    lakehouse = LakehouseResource(root=str(tmp_path))
    assert read(lakehouse) == []
    times = [NOON + timedelta(minutes=number) for number in range(MOST_ALERTS + 30)]
    write(lakehouse, FRAUD_ALERTS, [make_alert(make_payment(number, "a", at)) for number, at in enumerate(times)])
    assert [each.payment for each in read(lakehouse)] == [None] * MOST_ALERTS
    write(lakehouse, TRANSACTIONS, [make_payment(number, "a", at) for number, at in enumerate(times)])
    shown = read(lakehouse)
    assert [each.alert["event_time"] for each in shown] == times[: -MOST_ALERTS - 1 : -1]
    assert (len(shown[0].before), shown[0].before_count) == (MOST_PAYMENTS, len(times) - 1)


class Page(HTMLParser):
    """The tags, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def enabled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LakehouseResource]:
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
    monkeypatch.setenv("HEADRACE_GROUPS", "payments,fraud")
    load_settings.cache_clear()
    yield LakehouseResource.from_settings(load_settings())
    load_settings.cache_clear()


def run_page_job() -> tuple[dict[str, Any], Page]:
    with dg.instance_for_test() as instance:
        job = defs().get_repository_def().get_job("fraud_alerts_page")
        result = job.execute_in_process(instance=instance)
        (event,) = result.asset_materializations_for_node("reports__fraud_alerts_page")
    place = Path(str(event.metadata["page"].value))
    return {name: each.value for name, each in event.metadata.items()}, Page(place.read_text(encoding="utf-8"))


def test_the_job_writes_a_page_and_every_text_is_only_text(enabled: LakehouseResource) -> None:
    told, page = run_page_job()
    assert "There are no alerts." in page.text and told["preview"] == "No rows."
    plain = page.tags

    texts = dict.fromkeys(("card_id", "kind", "merchant_id", "merchant_category", "currency", "country", "channel",
                           "device", "transaction_id"), HOSTILE)  # fmt: skip
    payment = make_payment(0, "", NOON, **texts)
    others = [make_payment(1, "", NOON - timedelta(hours=1), **(texts | {"transaction_id": "other"}))]
    write(enabled, TRANSACTIONS, [payment, *others])
    write(enabled, FRAUD_ALERTS, [make_alert(payment, customer_id="ann-7", reasons=[HOSTILE, "é"], marks=[HOSTILE])])
    report = {"report_id": "r", "card_id": HOSTILE, "event_date": NOON.date(), "source": HOSTILE}
    write(enabled, FRAUD_REPORTS, [
        report | {"transaction_id": HOSTILE, "event_time": NOON, "verdict": "fraud"},
        report | {"transaction_id": "other", "event_time": NOON + timedelta(hours=1), "verdict": HOSTILE},
    ])  # fmt: skip
    write(enabled, CARD_HOLDS, [{"card_id": HOSTILE, "as_of": NOON, "score_id": HOSTILE, "score": 0.9}])
    told, page = run_page_job()
    assert page.tags - plain == {
        "article", "span", "bdi", "h2", "ol", "ul", "li", "details", "summary", "table", "thead", "tbody", "tr", "th",
        "td",
    }  # fmt: skip
    assert page.attributes == {"lang", "charset", "name", "content", "http-equiv", "class", "title"}
    assert page.text.count("<script>alert(1)</script>") == page.text.count("{{ 7 * 7 }}") >= 12
    for words in ("card is held since 2026-03-01 12:00:00", "reported as fraud", "1 transactions", "0.900", "é"):
        assert words in page.text
    counts = {name: told[f"fraud/{name}"] for name in ("alerts", "cards", "cards_held", "reported_as_fraud")}
    assert set(counts.values()) == {1}
    preview = told["preview"]
    assert "<script" not in preview and len(preview.splitlines()) == 3
    assert "ann-7" not in preview + page.text


def test_there_is_no_page_without_both_groups(enabled: LakehouseResource, monkeypatch: pytest.MonkeyPatch) -> None:
    def has_page(groups: str) -> bool:
        monkeypatch.setenv("HEADRACE_GROUPS", groups)
        load_settings.cache_clear()
        repository = defs().get_repository_def()
        found = {
            ALERTS_PAGE_KEY in repository.asset_graph.get_all_asset_keys(),
            "fraud_alerts_page" in repository.job_names,
            repository.has_schedule_def("fraud_alerts_page_hourly"),
        }
        assert len(found) == 1
        return found.pop()

    assert [has_page(groups) for groups in ("payments,fraud", "payments", "clickstream")] == [True, False, False]
    assert not (Path(enabled.root_uri) / ALERTS_PAGE).exists()
