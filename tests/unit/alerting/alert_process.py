"""A host's alerts in a process of their own, to be killed: `python -m tests.unit.alerting.alert_process HOME`."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from platform_assets.alerting.alert_group import AlertGroup
from tests.unit.alerting.raised_table import HOT, RaisedTable


def main() -> None:
    """Runs until it is killed."""
    raised = RaisedTable(Path(sys.argv[1]))
    group = AlertGroup([HOT], [], raised.settings, raised.lakehouse)
    group.start()
    while group.failure() is None:
        time.sleep(0.1)
    raise SystemExit(str(group.failure()))


if __name__ == "__main__":
    main()
