"""gold.network_threats: against plain Python, by both engines, its checks, and what it finds of planted attacks."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import dagster as dg
import duckdb
import pytest
from deltalake import write_deltalake
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.checks.freshness import build_report_freshness_checks
from platform_assets.checks.report_consistency import build_report_consistency_checks
from platform_assets.checks.schema_contract import build_schema_contract_checks
from platform_assets.reports import assets
from platform_assets.reports.network_threats import NETWORK_THREATS
from platform_assets.reports.report_engine import EngineName
from platform_assets.streaming.delta.delta_tables import create_table
from platform_assets.tables.access_logs import NETWORK_THREATS_TABLE
from platform_assets.tables.spec import Column
from platform_assets.topics.access_logs import ACCESS_LOGS, find_network
from resources.lakehouse import LakehouseResource
from tests.generated_cases import examples
from tests.spark.log_cases import MICROSECOND, MINUTE, SECOND, LogLine, login, logs_table, request
from tests.spark.report_cases import PARTITIONS, compute_by_both_engines, read_rows, run_reports

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SPEC = NETWORK_THREATS_TABLE
NOON = datetime(2024, 2, 29, 12, tzinfo=UTC)
MIDNIGHT = datetime(2024, 3, 1, tzinfo=UTC)
ASSETS = {engine: assets.build_report_assets([NETWORK_THREATS], PARTITIONS, engine) for engine in get_args(EngineName)}
ADDRESSES = ["203.0.113.1", "203.0.113.2", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"]


@st.composite
def attempts(draw: st.DrawFn) -> list[LogLine]:
    """Lines of one kind with equal pauses, about as many as a limit, by one address or by about ten."""
    start = draw(st.sampled_from([NOON, NOON + 9 * MINUTE, MIDNIGHT - 3 * MINUTE, MIDNIGHT]))
    addresses = draw(st.sampled_from([[each] for each in ADDRESSES] + [[f"10.0.0.{n}" for n in range(11)]]))
    kind = draw(st.sampled_from(["guess", "guess", "closed", "key", "entered", "missed", "asset", "asked"]))
    counts = [160, 161, 170] if kind == "asked" else [10, 11, 12] if kind == "missed" else [1, 4, 5, 6, 10, 11]
    pause = draw(st.sampled_from([timedelta(0), MICROSECOND, SECOND / 4, SECOND, 6 * SECOND, 2 * MINUTE, 6 * MINUTE]))
    host, user = draw(st.sampled_from(["h1", "h2"])), draw(st.sampled_from(["root", "admin"]))
    found = []
    for number in range(draw(st.sampled_from(counts))):
        time, address = start + number * pause, addresses[number % len(addresses)]
        if kind in ("missed", "asset", "asked"):
            path = {"missed": f"/{number}.php", "asset": f"/{number}.PNG", "asked": "/"}[kind]
            found.append(
                request(time, address, path, 200 if kind == "asked" else (404, 403, 400)[number % 3], host=host)
            )
            continue
        outcome = {"closed": "closed", "entered": "accepted"}.get(kind, "failed")
        method = "publickey" if kind == "key" else "password"
        repeated = draw(st.sampled_from([None, None, None, 5])) if kind == "guess" else None
        found.append(login(time, address, outcome, user, method, repeated, host))
    return found


HISTORIES = st.lists(attempts(), min_size=6, max_size=14).map(lambda found: [line for own in found for line in own])


def ask_python(lines: Sequence[LogLine]) -> dict[tuple[Any, ...], dict[str, Any]]:
    """The oracle: each rule by brute force, one network after the other."""
    by_day = defaultdict(list)
    for line in lines:
        if line["address"] is not None:
            by_day[line["event_time"].date()].append({**line, "network": find_network(line["address"])})
    return {(day, *key): row for day, own in by_day.items() for key, row in ask_of_day(own).items()}


def ask_of_day(lines: Sequence[LogLine]) -> dict[tuple[str, str], dict[str, Any]]:
    by_network, found = defaultdict(list), {}
    for line in lines:
        by_network[line["network"]].append(line)
    guesses = {network: find_guesses(own) for network, own in by_network.items()}
    for network, own in by_network.items():
        asked = [(line["event_time"], 1, line["path"] or "", line["host"]) for line in own if line["service"] == "web"]
        asked = [each for each in asked if not each[2].lower().endswith(".png")]
        missed: dict[tuple[str, str], datetime] = {}
        for line in own:
            path = line.get("path") or ""
            if line["service"] == "web" and line["status"] in (400, 403, 404) and not path.lower().endswith(".png"):
                place = (path, line["host"])
                missed[place] = min(missed.get(place, line["event_time"]), line["event_time"])
        rules = [
            ("password_guessing", guesses[network], 5, 10 * MINUTE,
             "{} failed log-ins, {} of them within 10 minutes; users: {}"),
            ("path_scan", [(at, 1, *place) for place, at in missed.items()], 11, MINUTE,
             "{} paths that are not there, {} of them within a minute"),
            ("burst", asked, 161, MINUTE, "{} requests, {} of them within a minute; paths: {}"),
        ]  # fmt: skip
        for rule, events, least, length, words in rules:
            counts = [sum(n for at, n, *_ in events if time - length <= at <= time) for time, *_ in events]
            if max(counts, default=0) >= least:
                reached = min(each[0] for each, count in zip(events, counts, strict=True) if count >= least)
                found[network, rule] = describe(events, reached, max(counts), words)
    found |= ask_crowds({n: own for n, own in guesses.items() if not entries(by_network[n])})
    for (network, rule), row in found.items():
        after = [at for at in entries(by_network[network]) if at >= row["reached_at"]]
        row["logged_in_at"] = min(after, default=None) if rule.endswith("guessing") else None
    return found


def find_guesses(lines: Sequence[LogLine]) -> list[tuple[Any, ...]]:
    refused = [e for e in lines if e.get("outcome") == "failed" and e["auth_method"] != "publickey"]
    counted = refused or [e for e in lines if e.get("outcome") == "closed"]
    return [(e["event_time"], e["repeated"] or 1, e["user_name"], e["host"]) for e in counted]


def entries(lines: Sequence[LogLine]) -> list[datetime]:
    return [line["event_time"] for line in lines if line.get("outcome") == "accepted"]


def ask_crowds(guesses: dict[str, list[tuple[Any, ...]]]) -> dict[tuple[str, str], dict[str, Any]]:
    first: dict[str, dict[str, datetime]] = defaultdict(dict)
    for network, own in guesses.items():
        for time, _, user, _ in own:
            first[user][network] = min(first[user].get(network, time), time)
    tried: dict[str, list[tuple[str, datetime, int]]] = defaultdict(list)
    for user, times in first.items():
        crowds = {time: sum(time - 60 * MINUTE <= at <= time for at in times.values()) for time in times.values()}
        for network, at in times.items():
            near = [(time, count) for time, count in crowds.items() if at <= time <= at + 60 * MINUTE]
            if max(count for _, count in near) >= 10:
                reached = min(time for time, count in near if count >= 10)
                tried[network].append((user, reached, max(count for _, count in near)))
    found = {}
    for network, own in tried.items():
        users = {user for user, *_ in own}
        events = [each for each in guesses[network] if each[2] in users]
        row = describe(events, min(reached for _, reached, _ in own), max(count for *_, count in own), "")
        row["words"] = (
            f"{row['events']} failed log-ins; users: {row['targets']}, tried by up to {row['peak']} networks "
            "within an hour"
        )
        found[network, "spread_guessing"] = row
    return found


def describe(events: Sequence[tuple[Any, ...]], reached: datetime, peak: int, words: str) -> dict[str, Any]:
    times, count, targets = [each[0] for each in events], sum(each[1] for each in events), {each[2] for each in events}
    return {
        "first_at": min(times), "last_at": max(times), "reached_at": reached, "events": count, "peak": peak,
        "targets": len(targets), "hosts": len({each[3] for each in events} - {None}),
        "words": words.format(count, peak, len(targets)),
    }  # fmt: skip


def by_key(rows: Sequence[dict[str, Any]]) -> dict[tuple[Any, ...], dict[str, Any]]:
    found = {
        tuple(row[name] for name in SPEC.key): {
            name: value.astimezone(UTC) if isinstance(value, datetime) else value
            for name, value in row.items()
            if name not in SPEC.key
        }
        for row in rows
    }
    assert len(found) == len(rows)
    return found


def compute(lines: Sequence[LogLine]) -> dict[tuple[Any, ...], dict[str, Any]]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("access_logs", logs_table(lines))
        return by_key(connection.sql(NETWORK_THREATS.sql).to_arrow_table().to_pylist())


@examples(15)
@given(HISTORIES)
def test_the_report_equals_plain_python(lines: list[LogLine]) -> None:
    assert compute(lines) == ask_python(lines)


ALL_RULES = [
    *(login(NOON + n * SECOND, "203.0.113.1", user_name=f"u{n}") for n in range(6)),
    login(NOON + 10 * SECOND, "203.0.113.1", "accepted"),
    *(request(NOON + n * SECOND, f"2001:db8::{n + 1:x}", f"/{n}/.env", 404) for n in range(12)),
    *(login(NOON + n * MINUTE, f"10.0.0.{n}", user_name="admin", host=f"h{n % 2}") for n in range(12)),
    *(request(NOON + n * SECOND / 4, "198.51.100.7", "/search") for n in range(200)),
    *(request(NOON + n * MINUTE, "192.0.2.7", host=None) for n in range(20)),
]


def test_both_engines_find_the_same(spark: SparkSession) -> None:
    found = by_key(compute_by_both_engines(spark, NETWORK_THREATS.sql, access_logs=logs_table(ALL_RULES)).to_pylist())
    assert found == ask_python(ALL_RULES)
    assert {rule for *_, rule in found} == {"password_guessing", "spread_guessing", "path_scan", "burst"}


def test_a_network_that_may_is_no_threat() -> None:
    # Four mistakes, a client that offers ten keys, a page with missing pictures, nine networks of a user's own.
    honest = [
        *(login(NOON + n * SECOND, "203.0.113.1") for n in range(4)),
        *(login(NOON + n * SECOND, "203.0.113.2", auth_method="publickey") for n in range(10)),
        *(request(NOON, "203.0.113.3", f"/{n}.png", 404) for n in range(30)),
        *(login(NOON + n * MINUTE, f"10.0.0.{n}", user_name="person") for n in range(9)),
    ]
    assert compute(honest) == {}


def test_ipv6_addresses_of_one_network_are_one_and_of_two_are_two() -> None:
    one = [login(NOON + n * SECOND, f"2001:db8::{n + 1:x}") for n in range(5)]
    two = [login(NOON + n * SECOND, f"2001:db8:{n % 2}::{n + 1:x}") for n in range(6)]
    assert [(key[1], row["events"]) for key, row in compute(one).items()] == [("2001:db8::/64", 5)]
    assert compute(two) == {}


def test_a_server_that_takes_no_passwords_shows_guesses_by_clients_that_go() -> None:
    gone = [login(NOON + n * SECOND, "203.0.113.1", "closed", auth_method=None) for n in range(5)]
    assert {key[2] for key in compute(gone)} == {"password_guessing"}
    # Where refusals are logged, the end of the connection is no second guess.
    both = [*(login(NOON + n * SECOND, "203.0.113.1") for n in range(3)), *gone[:3]]
    assert compute(both) == {}


def write(lakehouse: LakehouseResource, lines: Sequence[LogLine], first_offset: int = 0) -> None:
    table = create_table(lakehouse.table_uri(ACCESS_LOGS.name), ACCESS_LOGS)
    write_deltalake(table, logs_table(lines, first_offset), mode="append")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lakehouse with the report of one day, of which all checks have passed."""
    root = tmp_path_factory.mktemp("threats")
    lakehouse = LakehouseResource(root=str(root / "lakehouse"))
    write(lakehouse, ALL_RULES)
    checks = [
        *build_report_consistency_checks([SPEC]), *build_schema_contract_checks([SPEC]),
        *build_report_freshness_checks([SPEC]),
    ]  # fmt: skip
    verdicts = run_reports(lakehouse, "2024-02-29", assets=ASSETS, checks=checks).get_asset_check_evaluations()
    assert [(v.check_name, v.description) for v in verdicts if not v.passed] == []
    assert len(verdicts) == 3
    assert by_key(read_rows(lakehouse, SPEC.name)) == ask_python(ALL_RULES)
    return root


@pytest.mark.parametrize("column", SPEC.columns[1:], ids=lambda column: column.name)
def test_the_consistency_check_finds_one_wrong_value_in_any_column(
    written: Path, tmp_path: Path, column: Column
) -> None:
    shutil.copytree(written / "lakehouse", tmp_path / "lakehouse")
    lakehouse = LakehouseResource(root=str(tmp_path / "lakehouse"))
    wrong = {
        "bigint": f"{column.name} + 1", "string": f"concat({column.name}, 'x')",
        "timestamp": f"{column.name} + interval '1 microsecond'",
    }[column.type]  # fmt: skip
    predicate = "network = '203.0.113.1' and rule = 'password_guessing'"
    assert lakehouse.delta_table(SPEC.name).update({column.name: wrong}, predicate=predicate)["num_updated_rows"] == 1
    (check,) = build_report_consistency_checks([SPEC])
    verdict = check(dg.build_asset_check_context(resources={"lakehouse": lakehouse}))
    assert isinstance(verdict, dg.AssetCheckResult)
    assert not verdict.passed
    assert "2 differing rows" in str(verdict.description)
    # What Dagster is told it keeps.
    assert "203.0.113.1" not in str(verdict)


@examples(2)
@given(lines=HISTORIES)
def test_the_check_comes_to_the_same_rows(tmp_path_factory: pytest.TempPathFactory, lines: list[LogLine]) -> None:
    lakehouse = LakehouseResource(root=str(tmp_path_factory.mktemp("lakehouse")))
    write(lakehouse, lines)
    checks = build_report_consistency_checks([SPEC])
    (verdict,) = run_reports(
        lakehouse, "2024-02-29", "2024-03-01", assets=ASSETS, checks=checks
    ).get_asset_check_evaluations()
    assert verdict.passed, verdict.description


def test_the_preview_does_not_say_who_it_was_and_the_page_does(written: Path) -> None:
    from platform_assets.reports.presentation import render_preview

    rows = read_rows(LakehouseResource(root=str(written / "lakehouse")), SPEC.name)
    assert "203.0.113.1" not in render_preview(SPEC, rows)
    page = (written / "lakehouse" / "_reports" / "2024-02-29.html").read_text(encoding="utf-8")
    assert "Who attacked" in page and "203.0.113.1" in page and "2001:db8::/64" in page
