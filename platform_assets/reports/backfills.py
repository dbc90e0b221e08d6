"""The backfill that a run is a part of: what somebody, or the sensor, has asked for in one go.

Dagster starts a run for each range of days without a hole. With the engine `spark` each would start Spark: 53 days with
holes were 7 starts. So the first of these runs computes the days of all of them, and the others find them unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import dagster as dg

_BACKFILL_TAG = "dagster/backfill"


@dataclass(frozen=True)
class Backfill:
    """Its assets: those by day with their days, and the others."""

    days: Mapping[dg.AssetKey, tuple[date, ...]] = field(default_factory=dict)
    others: frozenset[dg.AssetKey] = frozenset()


def read_backfill(context: dg.AssetExecutionContext) -> Backfill:
    """The backfill of this run, as Dagster's instance has it; an empty one for a run that is part of none."""
    backfill_id = context.run.tags.get(_BACKFILL_TAG)
    found: Any = None if backfill_id is None else context.instance.get_backfill(backfill_id)
    # One of a job (not of assets) names its partitions only: a run of it is told what to do by its own tags.
    if found is None or found.asset_backfill_data is None:
        return Backfill()
    target = found.asset_backfill_data.target_subset
    days = {
        key: tuple(sorted(date.fromisoformat(day) for day in subset.get_partition_keys()))
        for key, subset in target.partitions_subsets_by_asset_key.items()
    }
    return Backfill(days, frozenset(target.non_partitioned_asset_keys))
