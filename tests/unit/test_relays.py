"""Relays: which group has them, what they stand for in Dagster, and how many task slots there are."""

from __future__ import annotations

import types
from typing import Any, cast

import pytest

from jobs.operations.stream_groups import find_groups
from jobs.platform.demonstrated_groups import name_groups
from jobs.supervision.stream_running import name_main_assets
from platform_assets.errors import CatalogueError, UsageError
from platform_assets.relays import load_relays
from platform_assets.stream_assets import build_stream_assets
from platform_assets.streaming.engine.task_slots import count_task_slots
from platform_assets.streaming.stream_spec import Group
from platform_assets.streams import load_all_stream_groups, load_all_streams


def test_a_group_has_relays_or_streams() -> None:
    catalogue = load_all_streams()
    found = Group("fraud", relays=("score_payments",)).resolve(catalogue)
    assert (found.streams, found.query_names) == ((), ("score_payments",))
    for wrong in (Group("both", ("events",), relays=("score_payments",)), Group("none")):
        with pytest.raises(CatalogueError, match="either topics and streams, or relays"):
            wrong.resolve(catalogue)


def test_a_relay_is_found_by_its_name() -> None:
    (relay,) = load_relays(["score_payments"])
    assert (relay.source.name, relay.outputs) == ("transactions", ("fraud-scores", "fraud-alerts"))
    with pytest.raises(CatalogueError, match=r"no relay other\. There are: score_payments"):
        load_relays(["score_payments", "other"])
    groups = load_all_stream_groups()
    assert [group.name for group in find_groups(groups, "", "score_payments")] == ["fraud"]
    with pytest.raises(UsageError, match="score_payments"):
        find_groups(groups, "", "score_payment")


def test_a_relay_stands_for_its_first_topic() -> None:
    groups = load_all_stream_groups()
    (fraud,) = (group for group in groups if group.name == "fraud")
    assert {name: list(key.path) for name, key in name_main_assets(fraud).items()} == {
        "score_payments": ["kafka", "fraud_scores"]
    }
    specs = build_stream_assets(groups, "shop")
    by_key = {tuple(spec.key.path): spec for spec in specs}
    assert len(by_key) == len(specs)
    deps = {tuple(dep.asset_key.path) for dep in by_key["kafka", "fraud_alerts"].deps}
    assert deps == {("kafka", "card_transactions"), ("gold", "card_features"), ("platform", "fraud_serving")}
    assert ("silver", "fraud_scores") in by_key and ("gold", "fraud_alerts") in by_key


@pytest.mark.parametrize(
    ("topics", "groups"),
    [
        ("transactions", "payments,fraud"),
        ("payments", "payments"),
        ("events,transactions", "clickstream,payments,fraud"),
        ("fraud_reports", "payments"),
        ("all", "all"),
        ("nothing", "nothing"),
    ],
)
def test_a_topic_stands_for_the_groups_that_show_it(topics: str, groups: str) -> None:
    assert name_groups(topics) == groups


@pytest.mark.parametrize(
    ("master", "conf", "slots"),
    [
        ("local[3]", {}, 3),
        ("local[3,2]", {}, 3),
        ("local", {}, 1),
        ("spark://host:7077", {"spark.executor.instances": "3", "spark.executor.cores": "2"}, 6),
        ("yarn", {"spark.executor.instances": "3", "spark.executor.cores": "4", "spark.task.cpus": "2"}, 6),
        ("spark://host:7077", {}, 7),
    ],
)
def test_slots_are_those_of_the_master(master: str, conf: dict[str, str], slots: int) -> None:
    # A cluster is not to be had here; what is read of its session is.
    found = types.SimpleNamespace(get=lambda name, default=None: conf.get(name, default))
    context = types.SimpleNamespace(master=master, defaultParallelism=7, getConf=lambda: found)
    assert count_task_slots(cast("Any", types.SimpleNamespace(sparkContext=context))) == slots
