"""An outcome is looked for once, also where it is an error; others are not kept."""

from __future__ import annotations

import traceback
from collections.abc import Callable

import pytest

from platform_assets.streaming.formats.outcomes import Outcomes
from resources.registry.missing_ids import MissingIds


def counted(outcome: object) -> tuple[Callable[[], object], list[int]]:
    calls: list[int] = []

    def look() -> object:
        calls.append(1)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return look, calls


@pytest.mark.parametrize("outcome", [1, None, ValueError("no"), KeyError("of a kind")])
def test_it_is_looked_for_once(outcome: object) -> None:
    outcomes, (look, calls) = Outcomes[str, object]((ValueError, KeyError)), counted(outcome)  # type: ignore[arg-type]
    for _ in range(3):
        if isinstance(outcome, Exception):
            with pytest.raises(type(outcome)) as raised:
                outcomes.find("a", look)
            assert raised.value is outcome
            assert len(traceback.extract_tb(outcome.__traceback__)) <= 3, "it does not grow with each time"
        else:
            assert outcomes.find("a", look) == outcome
    assert (len(calls), "a" in outcomes, "b" in outcomes) == (1, True, False)


def test_another_error_is_asked_for_again() -> None:
    outcomes, (look, calls) = Outcomes[str, object](ValueError), counted(OSError("away"))
    for _ in range(2):
        with pytest.raises(OSError, match="away"):
            outcomes.find("a", look)
    assert (len(calls), "a" in outcomes) == (2, False)


def test_the_oldest_are_forgotten() -> None:
    outcomes = Outcomes[int, int](ValueError, most=2)
    for number in range(5):
        assert outcomes.find(number, lambda: number * 10) == number * 10  # noqa: B023 - called at once
    assert [number in outcomes for number in range(5)] == [False, False, False, True, True]


def test_a_missing_id_is_known_for_some_seconds_and_not_without_end() -> None:
    clock = [100.0]
    missing = MissingIds(lambda: clock[0])
    missing.add(7, "there is no 7")
    clock[0] += 9.9
    assert (missing.find(7), missing.find(8)) == ("there is no 7", None)
    clock[0] += 0.2
    assert missing.find(7) is None
    for number in range(20_000):
        missing.add(number, "none")
    assert sum(missing.find(number) is not None for number in range(20_000)) == 10_000
    assert missing.find(19_999) == "none"
