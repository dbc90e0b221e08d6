"""The hours of the day: a part of a day has as many records as were asked for, whichever part it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.simulator import simulation
from jobs.simulator.daily_swing import find_intensity, find_mean_intensity
from jobs.simulator.payment_profile import PaymentProfile
from jobs.simulator.profile import ShopProfile
from jobs.simulator.simulation import SimulationPlan

HOUR = 3_600_000_000
DAY = 24 * HOUR
# A midnight.
START = 20_000 * DAY


@given(st.integers(0, 3 * DAY), st.integers(1000, 3 * DAY), st.floats(0, 1))
def test_the_mean_is_that_of_many_moments(start: int, length: int, swing: float) -> None:
    moments = [start + length * (2 * n + 1) // 4000 for n in range(2000)]
    mean = sum(find_intensity(at, swing) for at in moments) / len(moments)
    assert find_mean_intensity(start, start + length, swing) == pytest.approx(mean, abs=1e-4)


def test_the_evening_is_the_peak() -> None:
    assert find_intensity(START + 20 * HOUR, 0.6) == pytest.approx(1.6)
    assert find_intensity(START + 8 * HOUR, 0.6) == pytest.approx(0.4)
    assert find_mean_intensity(START, START + DAY, 0.6) == pytest.approx(1)


@pytest.mark.parametrize("profile", [ShopProfile(), PaymentProfile()])
@pytest.mark.parametrize("end", [START + 9 * HOUR, START + 21 * HOUR])
def test_a_count_is_met_in_quiet_and_in_busy_hours(
    profile: ShopProfile | PaymentProfile, end: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulation, "now_microseconds", lambda: end)
    plan = SimulationPlan(profile=profile, seed=3, hours=2, count=8000)
    assert sum(1 for _ in plan.records(plan.open())) == pytest.approx(8000, rel=0.15)
