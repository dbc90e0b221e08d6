"""How many generated cases a test looks at: few in `make test`, all in `make test-long`, which runs it once more.

Both look at the same cases each time. `make cases` looks at all of them anew, as often as it is told to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings

Test = TypeVar("Test", bound=Callable[..., Any])

QUICK = "quick"
NEW = "new cases"
"""Profiles of hypothesis."""


def examples(number: int, quick: int = 1) -> Callable[[Test], Test]:
    """Sets the number of examples of a test with `@given` that starts Spark jobs, `quick` in `make test`.

    One that fails is shown as it was generated: to make it smaller would take hundreds of jobs.
    """
    chosen = quick if settings.get_current_profile_name() == QUICK else number

    def decorate(test: Test) -> Test:
        limited = settings(max_examples=chosen, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
        return pytest.mark.generated(limited(test))

    return decorate
