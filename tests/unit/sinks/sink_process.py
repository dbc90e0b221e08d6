"""A process with one sink, for tests that kill it. Its arguments: the lakehouse, the address of Postgres, a home."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from platform_assets.sinks.sink_group import SinkGroup
from platform_assets.sinks.target import Target
from resources.lakehouse import LakehouseResource
from resources.settings import Settings
from tests.unit.sinks.sunk_table import SCHEMA, SPEC


def main(root: str, url: str, home: str) -> None:
    """Follows the table until it is killed."""
    settings = Settings.model_validate({"home": Path(home), "postgres_url": url, "postgres_tables": SPEC.name})
    SinkGroup([Target(SPEC, SCHEMA)], settings, LakehouseResource(root=root)).start()
    threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
