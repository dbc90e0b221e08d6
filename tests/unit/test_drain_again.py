"""A drain begins again after a query has failed, for nobody else would, and gives up after the third time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.operations import drain
from jobs.supervision.host import HostEnd
from jobs.supervision.model import ExitKind
from platform_assets.errors import BrokerUnavailableError, HeadraceError, QueryFailedError
from platform_assets.streams import load_stream_groups
from resources.settings import Settings

(GROUP,) = load_stream_groups()
DONE = HostEnd(True, ExitKind.STOPPED, "all is read")
FAILED = QueryFailedError("Query sessions failed: a Python process did not start in time.")


@pytest.mark.parametrize(
    "outcomes, code, hosted",
    [
        ([DONE], drain.EXIT_DONE, 1),
        ([FAILED, DONE], drain.EXIT_DONE, 2),
        ([FAILED, FAILED, DONE], drain.EXIT_DONE, 3),
        ([FAILED, FAILED, FAILED], drain.EXIT_FAILED, 3),
        ([BrokerUnavailableError("No broker answers.")], drain.EXIT_FAILED, 1),
    ],
)
def test_a_failed_query_is_begun_again(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    outcomes: list[HostEnd | HeadraceError],
    code: int,
    hosted: int,
) -> None:
    left: Iterator[HostEnd | HeadraceError] = iter(outcomes)
    lines: list[str] = []

    def host(*_: Any, **__: Any) -> HostEnd:
        outcome = next(left)
        if isinstance(outcome, HeadraceError):
            raise outcome
        return outcome

    monkeypatch.setattr(drain, "host_group", host)
    assert drain.drain_streams(GROUP, Settings(home=tmp_path), lines.append) == code
    assert list(left) == outcomes[hosted:]
    assert sum("tried again" in line for line in lines) == hosted - 1
