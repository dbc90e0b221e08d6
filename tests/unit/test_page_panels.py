"""What the live page's panels say, against the events themselves, counted in plain Python."""

from __future__ import annotations

import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from jobs.page.page_reader import PageReader
from jobs.page.panel import Panel
from jobs.page.panels import load_panels
from jobs.page.platform_view import PlatformView
from jobs.page.rendering import render_panel
from jobs.watching.platform_reading import GroupReading, PlatformReading, Verdict
from platform_assets.streams import load_stream_groups
from platform_assets.streams.fraud_alerts import FRAUD_ALERTS
from resources.duckdb import DuckDBResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings, load_settings
from tests.shop_lake import append_rows, write_ledger, write_shop
from tests.spark.report_cases import Event, event

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
# A little after a minute's begin, so that the newest minute and the newest window are open.
NOW = NOON + timedelta(seconds=20)


class Values(dict[str, Any]):
    """What each panel was rendered with, by its name."""


@pytest.fixture
def values(monkeypatch: pytest.MonkeyPatch) -> Values:
    found = Values()

    def note(panel: Panel, given: Any) -> str:
        found[panel.name] = given
        return render_panel(panel, given)

    monkeypatch.setattr("jobs.page.page_reader.render_panel", note)
    return found


@pytest.fixture
def reader(lakehouse: LakehouseResource, settings: Settings) -> Iterator[PageReader]:
    engine = DuckDBResource.from_settings(settings)
    found = PageReader(lakehouse, engine, load_panels(), load_stream_groups())
    yield found
    found.close()


def draw_events(seed: int, count: int = 1500) -> list[Event]:
    """Random events of the last two hours; of each minute of the last one is a purchase in euros."""
    rng = random.Random(seed)
    drawn = []
    for number in range(count):
        kind = rng.choices(["page_view", "add_to_cart", "purchase"], [6, 3, 2])[0]
        time = NOW - timedelta(microseconds=rng.randrange(2 * 3600 * 10**6))
        if number < 60:
            kind, time = "purchase", NOW - timedelta(minutes=number)
        drawn.append(
            event(
                f"u{rng.randrange(200)}", time, kind, rng.choice(["p1", "p2", "p2", "p3", None]),
                revenue=rng.choice([19.99, 0.1, 0.2, 1200.0, None]) if kind == "purchase" else 0.0,
                currency=rng.choice(["EUR", "EUR", "EUR", "CHF", None]) if number >= 60 else "EUR",
            )
        )  # fmt: skip
    return drawn


def add_up(events: list[Event], since: datetime, until: datetime) -> dict[str | None, Decimal]:
    sums: defaultdict[str | None, Decimal] = defaultdict(Decimal)
    for each in events:
        if each["event_type"] == "purchase" and since <= each["event_time"] < until:
            sums[each["currency"]] += Decimal(str(each["revenue"] or 0)) if each["revenue"] is not None else Decimal(0)
    return sums


def test_the_shop_is_shown_as_it_is(lakehouse: LakehouseResource, reader: PageReader, values: Values) -> None:
    events = draw_events(1)
    write_shop(lakehouse, events)
    states = reader.refresh(PlatformView(), NOW)
    assert not any(state.trouble for state in states.values())
    assert states["fraud_alerts"].html == states["ledger"].html == ""  # there are no such tables

    purchases = [each for each in events if each["event_type"] == "purchase"]
    revenue = values["revenue"]
    midnight = NOON.replace(hour=0)
    known = {name for name, _ in Counter(each["currency"] for each in purchases).most_common()}
    assert set(revenue["today"]) == known and revenue["currency"] == "EUR"
    assert revenue["today"] == pytest.approx(add_up(events, midnight, NOW + timedelta(seconds=1)))
    assert revenue["purchases"] == len(purchases)
    assert revenue["without_amount"] == sum(each["revenue"] is None for each in purchases)
    hour = add_up(events, NOON - timedelta(hours=1), NOON)
    assert {name: amount for name, amount in revenue["hour"].items() if amount} == {n: a for n, a in hour.items() if a}
    minutes = [add_up(events, NOON - timedelta(minutes=60 - n), NOON - timedelta(minutes=59 - n)) for n in range(60)]
    assert revenue["line"] == pytest.approx([float(minute["EUR"]) for minute in minutes])
    assert revenue["minute"]["EUR"] == minutes[-1]["EUR"]

    window = [each for each in events if NOON - timedelta(minutes=5) <= each["event_time"] < NOON]
    users = [
        len({each["user_id"] for each in window if each["event_type"] == kind})
        for kind in ("page_view", "add_to_cart", "purchase")
    ]
    assert [count for _, count, _ in values["funnel"]["steps"]] == users
    assert values["funnel"]["window"]["window_end"] == NOON

    sold: defaultdict[str, list[Event]] = defaultdict(list)
    newest = max(each["event_time"] for each in events)
    for each in purchases:
        if each["product_id"] is not None and each["event_time"] >= _begin_hour(newest):
            sold[each["product_id"]].append(each)
    shown = {each["name"]: each for each in values["top_products"]["products"]}
    assert list(shown) == sorted(sold, key=lambda product: (-len(sold[product]), product))
    for product, own in sold.items():
        assert shown[product]["purchases"] == len(own)
        for currency, amount in shown[product]["amounts"].items():
            assert (amount or 0) == add_up(own, NOON - timedelta(days=1), NOW + timedelta(seconds=1))[currency]

    ends = list_session_ends(events)
    ended = [end for end in ends if end >= _begin_hour(max(ends))]
    assert values["sessions"]["open"] is None and values["sessions"]["ended"] == len(ended) > 0


def _begin_hour(newest: datetime) -> datetime:
    return newest.replace(second=0, microsecond=0) - timedelta(hours=1)


def list_session_ends(events: list[Event]) -> list[datetime]:
    """When each user's events pause for more than half an hour, or end."""
    ends = []
    for user in {each["user_id"] for each in events}:
        times = sorted(each["event_time"] for each in events if each["user_id"] == user)
        ends += [a for a, b in itertools.pairwise([*times, NOW + timedelta(days=1)]) if b - a > timedelta(minutes=30)]
    return ends


def test_only_what_a_commit_changed_is_rendered_anew(
    lakehouse: LakehouseResource, reader: PageReader, values: Values
) -> None:
    write_shop(lakehouse, draw_events(2, 200))
    view = PlatformView()
    before = reader.refresh(view, NOW)
    values.clear()
    assert reader.refresh(view, NOW + timedelta(seconds=1))["revenue"].html == before["revenue"].html
    assert not values
    write_ledger(lakehouse, "events", {"rows_in": 3, "accepted": 2, "quarantined": 1, "deduplicated": 0}, NOW)
    for table in reader._tables.values():
        table._looked_at -= 60  # a table that was not there is looked for each five seconds
    reader.refresh(view, NOW + timedelta(seconds=2))
    assert set(values) == {"ledger"}


def test_the_ledger_says_what_is_missing(lakehouse: LakehouseResource, reader: PageReader, values: Values) -> None:
    counts = {"rows_in": 100, "accepted": 90, "quarantined": 5, "deduplicated": 3, "erased": 2}
    write_ledger(lakehouse, "events", counts, NOW)
    write_ledger(lakehouse, "transactions", {**counts, "accepted": 80, "erased": None}, NOW)
    verdicts = [Verdict("silver.events", "ledger", "error", NOW.timestamp())]
    view = PlatformView(PlatformReading({}, None, verdicts), NOW)
    html = reader.refresh(view, NOW)["ledger"].html
    assert [row["difference"] for row in values["ledger"]["rows"]] == [0, 12]
    assert "adds up" in html and "12 missing" in html and "check failed" in html


def test_a_shop_of_last_week_shows_its_last_day(
    lakehouse: LakehouseResource, reader: PageReader, values: Values
) -> None:
    events = draw_events(3, 100)
    write_shop(lakehouse, events)
    states = reader.refresh(PlatformView(), NOW + timedelta(days=7))
    assert "On 2026-05-04" in states["revenue"].html and "2026-05-04 12:00 UTC" in states["revenue"].html
    assert values["revenue"]["purchases"] == sum(each["event_type"] == "purchase" for each in events)


def test_text_of_records_is_shown_as_text(lakehouse: LakehouseResource, reader: PageReader) -> None:
    hostile = "<script>alert(1)</script>\N{RIGHT-TO-LEFT OVERRIDE}\x07"
    sold = {**event("u1", NOW, "purchase", "p1", revenue=1.0, currency="EUR"), "product_name": hostile}
    write_shop(lakehouse, [sold])
    alert = {
        "score_id": "s", "event_time": NOW, "scored_at": NOW, "score": 0.9, "amount": Decimal("12.30"),
        "currency": "EUR", "merchant_id": "\"><img src=x onerror=alert(1)>", "country": "DE", "reasons": [hostile],
        "customer_id": "customer-7", "card_id": "card-9",
    }  # fmt: skip
    append_rows(lakehouse, FRAUD_ALERTS, [alert])
    states = reader.refresh(PlatformView(), NOW)
    html = states["top_products"].html + states["fraud_alerts"].html
    assert "&lt;script&gt;" in html and "<script" not in html and "<img" not in html
    assert "\N{RIGHT-TO-LEFT OVERRIDE}" not in html and "\x07" not in html
    assert "customer-7" not in html and "card-9" not in html


def test_a_table_that_goes_away_leaves_its_numbers(
    lakehouse: LakehouseResource, reader: PageReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.page.followed_table._PROVE_SECONDS", 0.0)
    write_shop(lakehouse, draw_events(4, 100))
    before = reader.refresh(PlatformView(), NOW)
    silver = Path(lakehouse.table_uri("silver.events"))
    silver.rename(silver.with_name("away"))
    away = reader.refresh(PlatformView(), NOW + timedelta(seconds=1))
    assert away["top_products"] == replace(before["top_products"], trouble="A table is not there any more.")
    assert away["revenue"].trouble == ""
    silver.with_name("away").rename(silver)
    for table in reader._tables.values():
        table._looked_at -= 60
    back = reader.refresh(PlatformView(), NOW + timedelta(seconds=2))
    assert back["top_products"].trouble == "" and back["top_products"].good_at == NOW + timedelta(seconds=2)


def test_every_stream_has_its_row_whatever_its_topic(
    lakehouse: LakehouseResource, settings: Settings, values: Values, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_GROUPS", "all")
    load_settings.cache_clear()
    groups = load_stream_groups()
    load_settings.cache_clear()
    reader = PageReader(lakehouse, DuckDBResource.from_settings(settings), load_panels(), groups)
    view = PlatformView(PlatformReading({group.name: GroupReading(None, None) for group in groups}, None, []), NOW)
    reader.refresh(view, NOW)
    reader.close()
    assert [row["query"] for row in values["streams"]["rows"]] == [n for group in groups for n in group.query_names]
    assert {row["health"].words for row in values["streams"]["rows"]} == {"has never run"}
