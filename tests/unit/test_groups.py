"""Groups are files; a setting says which of them run, and a name that is none is refused with those that exist."""

import dataclasses
import pkgutil
import sys
import types
from pathlib import Path

import dagster as dg
import pytest

import platform_assets.groups
import platform_assets.streams
from platform_assets.checks import build_checks
from platform_assets.errors import CatalogueError, SettingError
from platform_assets.groups import load_all_groups, select_groups
from platform_assets.groups.clickstream import GROUP
from platform_assets.stream_assets import build_stream_assets
from platform_assets.streaming.stream_spec import Group, KafkaStream, TableSource, TableStream
from platform_assets.streams import load_all_streams, load_stream_groups, load_streams
from platform_assets.topics.events import TOPIC
from resources.settings import load_settings
from tests.integration.second_topic import build_groups

CATALOGUE = load_all_streams()
(EVENTS,) = (stream for stream in CATALOGUE if stream.name == "events")
SESSIONS = next(stream for stream in CATALOGUE if isinstance(stream, TableStream) and stream.name == "sessions")
ORDERS = KafkaStream(dataclasses.replace(TOPIC, name="orders", kafka_topic="orders"))
SHOP, OTHER = Group("shop", ("events",)), Group("other", ("orders",))


def test_the_shop_alone_runs_by_default() -> None:
    (group,) = load_stream_groups()
    assert group.name == "clickstream"
    assert [stream.name for stream in group.ingest] == ["events"]
    assert [stream.name for stream in group.streams] == [stream.name for stream in load_streams()]


def test_a_group_has_every_stream_over_what_its_topics_fill() -> None:
    over_orders = over(SESSIONS, "orders_by_user", ORDERS)
    over_that = over(SESSIONS, "orders_by_day", over_orders)
    catalogue = [EVENTS, ORDERS, SESSIONS, over_that, over_orders]
    assert SHOP.resolve(catalogue).streams == (EVENTS, SESSIONS)
    assert OTHER.resolve(catalogue).streams == (ORDERS, over_that, over_orders)
    both = Group("both", ("orders", "events"))
    assert both.resolve(catalogue).streams == (ORDERS, EVENTS, SESSIONS, over_that, over_orders)


def test_a_group_may_name_its_streams() -> None:
    found = Group("shop", ("events",), ("sessions",)).resolve(CATALOGUE)
    assert [stream.name for stream in found.streams] == ["events", "sessions"]


@pytest.mark.parametrize(
    ("group", "says"),
    [
        (Group("shop", ("event",)), "there is no stream event"),
        (Group("shop", ("events",), ("session",)), "there is no stream session"),
        (Group("shop", ("sessions",)), "`topics` are streams over Kafka"),
        (Group("shop", ("events",), ("sessions", "events")), "names events twice"),
        (Group("shop", ("transactions",), ("events",)), "`streams` are streams over tables"),
        (Group("shop", ("events", "events")), "names events twice"),
    ],
)
def test_a_group_of_streams_that_there_are_not_is_refused(group: Group, says: str) -> None:
    with pytest.raises(CatalogueError, match=says):
        group.resolve(CATALOGUE)


@pytest.mark.parametrize(
    ("enabled", "names"),
    [("shop", ["shop"]), ("all", ["other", "shop"]), (" shop , other,shop", ["shop", "other"])],
)
def test_the_setting_names_groups(enabled: str, names: list[str]) -> None:
    assert [group.name for group in select_groups((OTHER, SHOP), enabled)] == names


@pytest.mark.parametrize("enabled", ["shops", "shop,,other", ",", "all,shop"])
def test_an_unknown_group_is_refused_with_those_that_there_are(enabled: str) -> None:
    with pytest.raises(SettingError, match=r"^HEADRACE_GROUPS: there is no group .*There are: other, shop\."):
        select_groups((OTHER, SHOP), enabled)


@pytest.mark.usefixtures("fresh_settings")
def test_the_environment_says_which_groups_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_GROUPS", "all")
    assert [group.name for group in load_stream_groups()] == [group.name for group in load_all_groups()]
    load_settings.cache_clear()
    monkeypatch.setenv("HEADRACE_GROUPS", "clickstreams")
    with pytest.raises(SettingError, match=r"there is no group clickstreams\. There are: .*clickstream"):
        load_streams()


def test_a_stream_is_of_one_group(monkeypatch: pytest.MonkeyPatch) -> None:
    twice = dataclasses.replace(GROUP, name="again")
    monkeypatch.setattr(platform_assets.streams, "load_all_groups", lambda: (GROUP, twice))
    with pytest.raises(CatalogueError, match="Stream events is of the groups clickstream and again"):
        load_stream_groups()


def over(like: TableStream, name: str, source: KafkaStream | TableStream) -> TableStream:
    """A stream like this one, over the main table of another."""
    table = dataclasses.replace(like.main_table, name=f"gold.{name}")
    read = TableSource(source.main_table, ("event_id",), "event_time", like.source.watermark_delay)
    return dataclasses.replace(like, name=name, tables=(table,), source=read)


def test_two_streams_over_one_topic_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # The platform's tables could not tell their records apart.
    assert isinstance(ORDERS, KafkaStream)
    same = KafkaStream(dataclasses.replace(ORDERS.topic, kafka_topic=load_settings().topic))
    monkeypatch.setattr(platform_assets.streams, "load_all_streams", lambda: (EVENTS, same))
    both = Group("clickstream", ("events", "orders"))
    monkeypatch.setattr(platform_assets.streams, "load_all_groups", lambda: (both,))
    with pytest.raises(SettingError, match=r"^HEADRACE_TOPIC: topic ecommerce-events is read by the streams events"):
        load_stream_groups()


def test_each_topic_and_each_groups_closed_days_are_assets() -> None:
    groups = build_groups("card.orders")
    specs = build_stream_assets(groups, "shop-events")
    streams = [stream for group in groups for stream in group.streams]
    checks = build_checks(streams, "shop-events", "duckdb")
    dg.Definitions.validate_loadable(dg.Definitions(assets=specs))
    deps = {spec.key.to_user_string(): {dep.asset_key.to_user_string() for dep in spec.deps} for spec in specs}
    assert deps["silver/events"] == {"kafka/shop_events"} and deps["silver/orders"] == {"kafka/card_orders"}
    assert deps["platform/ledger"] == {"silver/events", "silver/orders"}
    assert deps["platform/closed_days"] == {"silver/events", "gold/revenue_by_category", "gold/sessions"}
    assert deps["platform/closed_days_orders"] == {
        "silver/orders", "gold/revenue_by_category_of_orders", "gold/sessions_of_orders"
    }  # fmt: skip
    of_orders = {key.name for check in checks for key in check.check_keys if key.asset_key.path == ["silver", "orders"]}
    assert {"ledger", "freshness", "time_to_loss", "event_time", "schema_contract"} <= of_orders


@pytest.mark.parametrize("enabled", ["", "  "])
def test_a_blank_setting_is_called_so(enabled: str) -> None:
    with pytest.raises(SettingError, match=r"^HEADRACE_GROUPS is blank"):
        select_groups((OTHER, SHOP), enabled)


def test_two_groups_of_one_name_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "again.py").write_text(
        "from platform_assets.streaming.stream_spec import Group\n\nGROUP = Group('payments', topics=('events',))\n"
    )
    monkeypatch.setattr(platform_assets.groups, "__path__", [*platform_assets.groups.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "platform_assets.groups.again", raising=False)
    with pytest.raises(CatalogueError, match="Two files of platform_assets/groups have a group payments"):
        load_all_groups()


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"name": "events"}, "have the name events"), ({"name": "again"}, "have the table gold.sessions")],
)
def test_two_streams_of_one_name_or_table_are_refused(
    changes: dict[str, str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = types.ModuleType("platform_assets.streams.zz_again")
    again.STREAM = dataclasses.replace(SESSIONS, **changes)  # type: ignore[attr-defined,arg-type]
    modules = [*pkgutil.iter_modules(platform_assets.streams.__path__), pkgutil.ModuleInfo(None, "zz_again", False)]  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, again.__name__, again)
    monkeypatch.setattr(pkgutil, "iter_modules", lambda _: modules)
    monkeypatch.setattr(platform_assets.streams, "load_topics", lambda: (TOPIC,))
    with pytest.raises(CatalogueError, match=says):
        load_all_streams()
