"""Loads the code location in this process, and runs a job of it for a command that says itself what came of it."""

from __future__ import annotations

from collections.abc import Mapping

import dagster as dg

# Dagster's line for each of its events would bury what the command prints, and a step that fails or is interrupted
# would print its stack trace; the instance keeps them.
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def run_quietly(
    job: str, instance: dg.DagsterInstance, tags: Mapping[str, str] | None = None
) -> dg.ExecuteInProcessResult:
    """The run's result, whether it succeeded or not."""
    from platform_assets.definitions import defs

    found = defs().get_repository_def().get_job(job)
    return found.execute_in_process(instance=instance, raise_on_error=False, run_config=_QUIET, tags=tags)


def load_check_keys() -> list[dg.AssetCheckKey]:
    """The asset checks of the code location."""
    from platform_assets.definitions import defs

    return sorted(defs().get_repository_def().asset_graph.asset_check_keys)
