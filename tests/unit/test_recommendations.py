"""Recommendations: what the model learns, and what users see by night, in a session and at a look-up."""

from __future__ import annotations

import json
import math
import socket
import threading
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.operations.forgetting.topics import build_erasers
from jobs.operations.recommendations import build_server, open_lookup, serve_recommendations
from platform_assets.checks.measured_recall import judge_recall
from platform_assets.checks.schema_contract import find_contract_breaches
from platform_assets.errors import NotReadyError, SettingError
from platform_assets.reports.daily_report import ReportCommit
from platform_assets.reports.duckdb_engine import DuckDBEngine
from platform_assets.reports.report_engine import Engines
from platform_assets.reports.whole.assets import compute_whole
from platform_assets.reports.whole.interactions import HALF_LIFE_DAYS, WEIGHTS, Interactions
from platform_assets.reports.whole.item_similarity import find_neighbours, recommend
from platform_assets.reports.whole.measured_recall import compare, score
from platform_assets.reports.whole.product_neighbours import PRODUCT_NEIGHBOURS
from platform_assets.reports.whole.product_recommendations import PRODUCT_RECOMMENDATIONS
from platform_assets.reports.whole.recommendation_lookup import RecommendationLookup
from platform_assets.reports.whole.session_update import OPEN_SESSION, SessionUpdate
from platform_assets.reports.whole.whole_commit import find_commit
from platform_assets.streaming.context import StreamContext
from platform_assets.streaming.delta.commit_info import CommitInfo, CommitKind
from platform_assets.streaming.delta.writer import DeltaWriter
from platform_assets.streaming.register.found_traces import NOTHING_ELSE
from platform_assets.streaming.register.traces import TraceFinder
from platform_assets.streams import load_streams
from platform_assets.topics.events import EVENTS as EVENTS_TABLE
from platform_assets.topics.events import TOPIC as EVENTS_TOPIC
from resources.duckdb import DuckDBResource
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.spark.report_cases import append_events, event, read_rows

NOW = datetime(2026, 3, 31, 12, tzinfo=UTC)
TABLE = PRODUCT_RECOMMENDATIONS.table
Row = dict[str, Any]


def buyers(count: int, *products: str, country: str = "DE", days: int = 2) -> list[Row]:
    """Users `<first product>-<n>` who view all of these products."""
    return [
        event(f"{products[0]}-{n}", NOW - timedelta(days=days, minutes=n), "page_view", product, country=country)
        for n in range(count) for product in products
    ]  # fmt: skip


# Two tastes with three products each, and one user who knows one product of the first.
EVENTS = [
    *buyers(12, "a1", "a2", "a3"), *buyers(9, "b1", "b2", "b3", country="FR"),
    event("ann", NOW - timedelta(days=1), "purchase", "a1"),
    event("nobody", NOW - timedelta(days=1), "purchase", "a1") | {"is_anonymous": True},
    event("old", NOW - timedelta(days=200), "purchase", "b1"),
]  # fmt: skip


@pytest.fixture
def lakehouse(tmp_path: Path) -> LakehouseResource:
    found = LakehouseResource(root=str(tmp_path / "lake"))
    append_events(found, EVENTS)
    return found


def compute_night(lakehouse: LakehouseResource, now: datetime = NOW) -> dict[str, Any]:
    settings = Settings(home=Path(str(lakehouse.local_root)).parent / "home")
    with DuckDBResource.from_settings(settings).connected() as connection:
        engine = DuckDBEngine(connection, lakehouse)
        compute_whole(PRODUCT_NEIGHBOURS, Engines(engine, engine), lakehouse, now)
        return compute_whole(PRODUCT_RECOMMENDATIONS, Engines(engine, engine), lakehouse, now)


def shown_to(rows: list[Row], user: str) -> list[str]:
    return [row["product_id"] for row in sorted(rows, key=lambda row: row["rank"]) if row["user_id"] == user]


def test_who_knows_one_product_of_a_taste_is_shown_the_others_of_it(lakehouse: LakehouseResource) -> None:
    compute_night(lakehouse)
    rows = read_rows(lakehouse, TABLE.name)
    assert shown_to(rows, "ann") == ["a2", "a3"]
    assert {row["reason"] for row in rows if row["user_id"] == "ann"} == {"like a1"}
    assert not shown_to(rows, "nobody") and not shown_to(rows, "old")
    assert find_contract_breaches(lakehouse.delta_table(TABLE.name), TABLE) == []
    keys = [tuple(row[name] for name in TABLE.key) for row in rows]
    assert len(keys) == len(set(keys))


def test_popular_products_are_those_of_a_sum_in_polars(lakehouse: LakehouseResource) -> None:
    compute_night(lakehouse)
    known = pl.DataFrame([e for e in EVENTS if e["user_id"] not in ("nobody", "old")])
    age = (pl.lit(NOW) - pl.col("event_time")).dt.total_microseconds() / 86_400e6
    weight = pl.col("event_type").replace_strict(WEIGHTS, default=0.0, return_dtype=pl.Float64)
    weights = known.with_columns(w=weight * 2.0 ** (-age / HALF_LIFE_DAYS)).group_by("user_id", "country", "product_id")
    sums = weights.agg(pl.col("w").sum()).with_columns(pl.col("w").log1p())
    for country in ("DE", "FR", None):
        of_country = sums if country is None else sums.filter(pl.col("country") == country)
        expected = dict(of_country.group_by("product_id").agg(pl.col("w").sum()).iter_rows())
        rows = [r for r in read_rows(lakehouse, TABLE.name) if r["basis"] == "country" and r["country"] == country]
        assert {r["product_id"]: r["score"] for r in rows} == pytest.approx(expected, rel=1e-6)
        assert [r["rank"] for r in sorted(rows, key=lambda r: (-r["score"], r["product_id"]))] == list(
            range(1, len(rows) + 1)
        )


def test_a_session_changes_what_is_shown_and_the_night_adds_up_with_it(lakehouse: LakehouseResource) -> None:
    compute_night(lakehouse)
    by_night = read_rows(lakehouse, TABLE.name)
    append_events(lakehouse, [event("ann", NOW - timedelta(minutes=2), "page_view", "b1")], 100)
    update = SessionUpdate(lakehouse)
    assert update.update(NOW) == 4
    rows = read_rows(lakehouse, TABLE.name)
    assert [row for row in rows if row["basis"] != "session"] == by_night
    assert set(shown_to([row for row in rows if row["basis"] == "session"], "ann")) == {"a2", "a3", "b2", "b3"}
    past = {row["product_id"]: row["score"] for row in by_night if row["user_id"] == "ann"}
    new = {row["product_id"]: row["score"] for row in rows if row["basis"] == "session"}
    assert all(new[product] == pytest.approx(past[product]) for product in past)
    assert update.update(NOW) is None, "nothing is new"


def test_a_session_that_is_over_is_taken_out_with_the_next_event(lakehouse: LakehouseResource) -> None:
    compute_night(lakehouse)
    update = SessionUpdate(lakehouse)
    append_events(lakehouse, [event("ann", NOW, "page_view", "b1")], 100)
    assert update.update(NOW + timedelta(minutes=1))
    append_events(lakehouse, [event("bob", NOW + OPEN_SESSION * 2, "page_view", "a1")], 101)
    update.update(NOW + OPEN_SESSION * 2 + timedelta(minutes=1))
    rows = [row for row in read_rows(lakehouse, TABLE.name) if row["basis"] == "session"]
    assert {row["user_id"] for row in rows} == {"bob"}


def test_a_session_keeps_what_the_night_has_measured(lakehouse: LakehouseResource) -> None:
    append_events(lakehouse, [event(f"a1-{n}", NOW - timedelta(minutes=5), "page_view", "b1") for n in range(5)], 200)
    compute_night(lakehouse)
    before = find_commit(lakehouse.delta_table(TABLE.name))
    append_events(lakehouse, [event("ann", NOW, "page_view", "b1")], 300)
    SessionUpdate(lakehouse).update(NOW + timedelta(minutes=1))
    after = find_commit(lakehouse.delta_table(TABLE.name))
    assert before is not None and after is not None
    assert before.measured and after.measured == before.measured and after.inputs != before.inputs


def test_nothing_is_done_before_the_first_night(tmp_path: Path) -> None:
    lakehouse = LakehouseResource(root=str(tmp_path))
    assert SessionUpdate(lakehouse).update(NOW) is None
    append_events(lakehouse, EVENTS)
    assert SessionUpdate(lakehouse).update(NOW) is None
    assert lakehouse.find_table(TABLE.name) is None


def test_a_failed_update_is_logged_and_does_not_end_the_streams(
    lakehouse: LakehouseResource, caplog: pytest.LogCaptureFixture
) -> None:
    compute_night(lakehouse)

    def refuse() -> None:
        raise RuntimeError("the lease is another's")

    SessionUpdate(lakehouse, refuse).follow()
    assert "the lease is another's" in caplog.text
    assert not [row for row in read_rows(lakehouse, TABLE.name) if row["basis"] == "session"]


@pytest.fixture
def lookup(lakehouse: LakehouseResource) -> Iterator[RecommendationLookup]:
    compute_night(lakehouse)
    with open_lookup(lakehouse) as opened:
        yield opened


def test_a_look_up_fills_up_with_what_is_popular(lookup: RecommendationLookup) -> None:
    found = lookup.look_up("ann", "FR")
    assert [row["product_id"] for row in found[:2]] == ["a2", "a3"]
    assert {row["product_id"] for row in found[2:5]} == {"b1", "b2", "b3"}
    assert len({row["product_id"] for row in found}) == len(found)


def test_a_stranger_is_shown_what_is_popular_where_he_is(lookup: RecommendationLookup) -> None:
    assert [row["reason"] for row in lookup.look_up("stranger's", "FR", 3)] == ["popular in FR"] * 3
    assert [row["product_id"] for row in lookup.look_up("stranger", None, 1)] == ["a1"]
    assert lookup.look_up("stranger", "XX", 1)[0]["reason"] == "popular"


def test_an_open_look_up_sees_what_was_written_since(
    lakehouse: LakehouseResource, lookup: RecommendationLookup
) -> None:
    assert lookup.look_up("ann")[0]["basis"] == "history"
    append_events(lakehouse, [event("ann", NOW - timedelta(minutes=2), "page_view", "b1")], 100)
    SessionUpdate(lakehouse).update(NOW)
    assert lookup.look_up("ann")[0]["basis"] == "session"


def test_the_endpoint_answers_what_a_look_up_does(lakehouse: LakehouseResource) -> None:
    compute_night(lakehouse)
    ready, answers = threading.Event(), []

    def serve() -> None:
        with open_lookup(lakehouse) as own, build_server(own, 0) as server:
            answers.append(server)
            ready.set()
            server.serve_forever()

    thread = threading.Thread(target=serve)
    thread.start()
    assert ready.wait(20)
    try:
        assert answers[0].server_address[0] == "127.0.0.1"
        url = f"http://127.0.0.1:{answers[0].server_port}/recommendations"
        with urllib.request.urlopen(f"{url}?user=ann&most=2", timeout=10) as response:
            assert [row["product_id"] for row in json.load(response)] == ["a2", "a3"]
        for wrong in ("", "?user=ann&most=-1", "?user=ann&most=1.5", f"?user=ann&most={'9' * 5000}"):
            with pytest.raises(urllib.error.HTTPError, match="400"):
                urllib.request.urlopen(url + wrong, timeout=10)
        for name in ("elsewhere.test", f"elsewhere.test:{answers[0].server_port}", "127.0.0.1.elsewhere.test", "[", ""):
            with pytest.raises(urllib.error.HTTPError, match="421"):
                urllib.request.urlopen(urllib.request.Request(f"{url}?user=ann", headers={"Host": name}), timeout=10)
        with socket.create_connection(("127.0.0.1", answers[0].server_port)) as broken:
            broken.sendall(b"GET http://[ HTTP/1.0\r\n\r\n")
            assert b" 400 " in broken.recv(100)
        with (
            socket.create_connection(("127.0.0.1", answers[0].server_port)),
            urllib.request.urlopen(f"{url}?user=ann&most=1", timeout=10) as response,
        ):
            assert len(json.load(response)) == 1, "a client that stays silent stops no other"
    finally:
        answers[0].shutdown()
        thread.join(20)


def test_many_ask_at_once_and_all_get_an_answer(lakehouse: LakehouseResource) -> None:
    compute_night(lakehouse)
    with ExitStack() as opened:
        server = opened.enter_context(build_server(opened.enter_context(open_lookup(lakehouse)), 0))
        address = "127.0.0.1", server.server_port
        clients = [opened.enter_context(socket.create_connection(address, timeout=10)) for _ in range(50)]
        for client in clients:
            client.sendall(b"GET /recommendations?user=ann HTTP/1.0\r\n\r\n")
        for client in clients:
            server.handle_request()
            assert b" 200 " in client.recv(100)


def test_what_is_not_there_yet_or_switched_off_says_so(tmp_path: Path) -> None:
    lakehouse = LakehouseResource(root=str(tmp_path))
    with pytest.raises(NotReadyError, match="not computed yet"):
        open_lookup(lakehouse)
    with pytest.raises(SettingError, match="HEADRACE_RECOMMENDATIONS_PORT"):
        serve_recommendations(lakehouse, 0)


def test_recall_is_measured_on_what_is_new_to_a_user() -> None:
    assert score({0: [1, 2], 1: [3]}, {0: {2, 5}, 1: {4}}, 10) == (0.25, 0.3)


def test_a_shop_with_tastes_is_recommended_better_than_by_popularity() -> None:
    rng = np.random.default_rng(3)
    rows: defaultdict[tuple[str, str], float] = defaultdict(float)
    later = []
    for user in range(600):
        liked = (user % 6) * 10 + rng.permutation(10)[:6]
        for product in liked[:4]:
            rows[f"u{user}", f"p{product}"] += 1.0
        later += [(f"u{user}", f"p{product}") for product in liked[4:]]
    users, products = zip(*rows, strict=True)
    table = pa.table({"user_id": users, "product_id": products, "weight": list(rows.values())})
    measured = compare(Interactions.of_rows(table), later)
    assert measured["recall_at_10"] > 0.9 > 0.5 > measured["popular_recall_at_10"]
    assert judge_recall(measured).passed
    swapped = {**measured, "recall_at_10": measured["popular_recall_at_10"], "popular_recall_at_10": 0.9}
    assert not judge_recall(swapped).passed
    assert judge_recall({**swapped, "users": 20.0}).passed and judge_recall({}).passed
    young = judge_recall({**swapped, "days": 0.1})
    assert young.passed and young.description is not None and "too few days" in young.description
    assert not judge_recall({**swapped, "days": 1.0}).passed


triples = st.tuples(st.integers(0, 7), st.integers(0, 5), st.floats(0.1, 9))


@given(st.lists(triples, min_size=1, max_size=40), st.randoms())
@settings(max_examples=60, deadline=None)
def test_neighbours_solve_the_ridge_regression_of_each_product(rows: list[tuple[int, int, float]], random: Any) -> None:
    weights = {(user, product): weight for user, product, weight in rows}
    items = list(weights.items())
    random.shuffle(items)
    user, product = (np.array([key[n] for key, _ in items]) for n in (0, 1))
    found = find_neighbours(user, product, np.array([weight for _, weight in items]), 6, 6)
    matrix = np.zeros((8, 6))
    for (u, p), weight in weights.items():
        matrix[u, p] = math.log1p(weight)
    ridge = max(float((matrix**2).sum(axis=0).mean()), 1e-9)
    expected = {}
    for target in range(6):  # the oracle: one regression a product, of its column on all the others
        others = [p for p in range(6) if p != target]
        left = matrix[:, others].T @ matrix[:, others] + ridge * np.eye(5)
        for p, value in zip(others, np.linalg.solve(left, matrix[:, others].T @ matrix[:, target]), strict=True):
            expected[p, target] = value
    pairs = zip(found.product.tolist(), found.other.tolist(), strict=True)
    ours = dict(zip(pairs, found.score.tolist(), strict=True))
    for pair, value in expected.items():
        assert ours.get(pair, 0.0) == pytest.approx(max(value, 0.0), abs=1e-6)


def test_a_user_without_neighbours_gets_nothing_and_ranks_follow_scores() -> None:
    similar = find_neighbours(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), np.ones(4), 4, 5).as_matrix(4)
    found = recommend(np.array([0, 1]), np.array([0, 3]), np.ones(2), similar, 5)
    assert found.user.tolist() == [0] and found.product.tolist() == [1] and found.because.tolist() == [0]
    nothing = recommend(np.empty(0, int), np.empty(0, int), np.empty(0), similar, 5)
    assert len(nothing.user) == 0


def test_a_commit_of_a_whole_table_is_one_of_a_report(lakehouse: LakehouseResource) -> None:
    compute_night(lakehouse)
    texts = [commit.get("userMetadata") for commit in lakehouse.delta_table(TABLE.name).history(10)]
    parsed = next(found for text in texts if (found := ReportCommit.parse(text)) is not None)
    assert parsed.days is None and set(parsed.inputs) == {"silver.events", "gold.product_neighbours"}


def test_a_forgotten_user_is_taken_out_of_night_and_session(lakehouse: LakehouseResource) -> None:
    compute_night(lakehouse)
    append_events(lakehouse, [event("ann", NOW - timedelta(minutes=2), "page_view", "b1")], 100)
    SessionUpdate(lakehouse).update(NOW)
    before = read_rows(lakehouse, TABLE.name)
    context = StreamContext(lakehouse.root_uri, {}, "earliest", 1, 1.0, 1, None)
    eraser = build_erasers("ann", "hash", load_streams(), context)[EVENTS_TABLE.name]
    assert eraser.personal[TABLE] == "user_id"
    rows = TraceFinder("ann", EVENTS_TOPIC, NOTHING_ELSE, context).find_own(TABLE, "user_id", ["user_id"])
    assert len(rows) == 6
    DeltaWriter(TABLE, context).erase(rows, "true", CommitInfo(CommitKind.ERASURE, "hash"))
    assert read_rows(lakehouse, TABLE.name) == [row for row in before if row["user_id"] != "ann"]


def test_a_shop_without_events_has_empty_tables(tmp_path: Path) -> None:
    lakehouse = LakehouseResource(root=str(tmp_path / "lake"))
    append_events(lakehouse, [])
    measured = compute_night(lakehouse)
    assert read_rows(lakehouse, TABLE.name) == [] == read_rows(lakehouse, PRODUCT_NEIGHBOURS.table.name)
    assert not [name for name in measured if "recall" in name]
    assert SessionUpdate(lakehouse).update(NOW) == 0
    with open_lookup(lakehouse) as lookup:
        assert lookup.look_up("ann", "DE") == []
