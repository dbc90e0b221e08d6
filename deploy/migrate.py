"""Brings the tables of Dagster's storage up to this version's: a container that runs once, before the others.

Two services that create the tables of a fresh database at once trip over each other, and code of two versions must not
migrate them at once. Called again it changes nothing. Exit code 1: nobody else must start.
"""

from __future__ import annotations

import sys

import dagster as dg

from jobs.supervision.dagster_home import set_pool_limits
from jobs.supervision.storage_errors import find_storage_error
from platform_assets.errors import HeadraceError


def main() -> int:
    """Does what `dagster instance migrate` does, and gives the pools of a fresh storage their limits."""
    try:
        with dg.DagsterInstance.get() as instance:
            instance.upgrade(print)
            set_pool_limits(instance)
    except Exception as error:
        known = error if isinstance(error, HeadraceError) else find_storage_error(error)
        if known is None:
            raise
        print(f"migrate: {known}", file=sys.stderr)
        return 1
    print("Dagster's storage is up to date.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
