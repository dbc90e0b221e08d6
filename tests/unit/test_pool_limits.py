"""Runs of reports go one after the other from the first one on, also on a home that has seen none."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from jobs.supervision.dagster_home import ensure_dagster_home, set_pool_limits
from platform_assets.reports.assets import BATCH_SPARK_POOL, REPORTS_POOL
from resources.settings import Settings


def test_pools_have_their_limit_before_a_run_is_seen_and_a_persons_own_stays(tmp_path: Path) -> None:
    home = ensure_dagster_home(Settings(home=tmp_path, kafka_bootstrap_servers=""))
    with dg.DagsterInstance.from_config(str(home)) as instance:
        set_pool_limits(instance)
        assert read_limits(instance) == {BATCH_SPARK_POOL: 1, REPORTS_POOL: 1}
        instance.event_log_storage.set_concurrency_slots(REPORTS_POOL, 3)
        set_pool_limits(instance)
        assert read_limits(instance) == {BATCH_SPARK_POOL: 1, REPORTS_POOL: 3}


def read_limits(instance: dg.DagsterInstance) -> dict[str, int]:
    return {limit.name: limit.limit for limit in instance.event_log_storage.get_pool_limits()}
