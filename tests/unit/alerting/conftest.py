from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.alerting.raised_table import RaisedTable


@pytest.fixture
def raised(tmp_path: Path) -> RaisedTable:
    return RaisedTable(tmp_path / "home")
