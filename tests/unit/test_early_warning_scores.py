"""gold.early_warning_scores: the query, and the check's own points, against the table as it is published."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from platform_assets.reports.early_warning_scores import EARLY_WARNING_SCORES
from platform_assets.tables.telemetry import EARLY_WARNING_SCORES_TABLE
from resources.lakehouse import LakehouseResource
from tests.spark.telemetry_cases import MINUTE, Reading, reading, telemetry_table
from tests.telemetry_lake import HOUR, MIDNIGHT, Row, ask_sql, recompute, tell_history, write

SPEC = EARLY_WARNING_SCORES_TABLE
SQL = EARLY_WARNING_SCORES.sql
NOON = MIDNIGHT + 12 * HOUR
# One value inside of each cell of the published table and one at each of its ends, with the points of the cell.
PUBLISHED: dict[str, list[tuple[float, int]]] = {
    "respiration_rate": [(0, 3), (8, 3), (9, 1), (11, 1), (12, 0), (20, 0), (21, 2), (24, 2), (25, 3), (60, 3)],
    "oxygen_saturation": [(70, 3), (91, 3), (92, 2), (93, 2), (94, 1), (95, 1), (96, 0), (100, 0)],
    "oxygen_flow": [(0, 0), (0.1, 2), (2, 2), (15, 2)],
    "systolic_pressure": [
        (60, 3), (90, 3), (91, 2), (100, 2), (101, 1), (110, 1), (111, 0), (219, 0), (220, 3), (300, 3),
    ],
    "heart_rate": [
        (20, 3), (40, 3), (41, 1), (50, 1), (51, 0), (90, 0), (91, 1), (110, 1), (111, 2), (130, 2), (131, 3),
    ],
    "consciousness": [(0, 0), (1, 3), (4, 3)],
    "body_temperature": [
        (33.0, 3), (35.0, 3), (35.1, 1), (36.0, 1), (36.1, 0), (38.0, 0), (38.1, 1), (39.0, 1), (39.1, 2), (42.0, 2),
    ],
}  # fmt: skip
WELL: dict[str, float] = {
    "respiration_rate": 16, "oxygen_saturation": 98, "oxygen_flow": 0, "systolic_pressure": 120, "heart_rate": 70,
    "consciousness": 0, "body_temperature": 36.8,
}  # fmt: skip


def ask(readings: list[Reading]) -> list[Row]:
    return ask_sql(SQL, telemetry_table(readings), SPEC)


def measure(sensor: str, signs: Mapping[str, float]) -> list[Reading]:
    return [reading(sensor, NOON, value, kind) for kind, value in signs.items()]


def test_each_cell_of_the_published_table_has_its_points(tmp_path: Any) -> None:
    cases = [(kind, value, points) for kind, cells in PUBLISHED.items() for value, points in cells]
    readings = [each for n, (kind, value, _) in enumerate(cases) for each in measure(f"p{n}", WELL | {kind: value})]
    rows = {row["sensor"]: row for row in ask(readings)}
    for n, (kind, value, points) in enumerate(cases):
        row = rows[f"p{n}"]
        assert (row[f"{kind}_points"], row["score"]) == (points, points), (kind, value)
        assert row["has_red_sign"] == (points == 3)
        assert row["risk"] == ("low-medium" if points == 3 else "low")
    lakehouse = LakehouseResource(root=str(tmp_path / "lakehouse"))
    write(lakehouse, readings)
    assert list(rows.values()) == recompute(lakehouse, SPEC)


@pytest.mark.parametrize(
    ("signs", "score", "risk"),
    [
        ({}, 0, "low"),
        ({"heart_rate": 115, "oxygen_flow": 3}, 4, "low"),
        ({"heart_rate": 135}, 3, "low-medium"),
        ({"heart_rate": 115, "oxygen_flow": 3, "body_temperature": 38.5}, 5, "medium"),
        ({"heart_rate": 135, "respiration_rate": 30}, 6, "medium"),
        ({"heart_rate": 135, "respiration_rate": 30, "oxygen_saturation": 95}, 7, "high"),
        ({"respiration_rate": 30, "oxygen_saturation": 80, "oxygen_flow": 9, "systolic_pressure": 70, "heart_rate": 140,
          "consciousness": 3, "body_temperature": 34.0}, 20, "high"),
    ],
)  # fmt: skip
def test_points_add_up_to_a_risk(signs: dict[str, float], score: int, risk: str) -> None:
    (row,) = ask(measure("p", WELL | signs))
    assert (row["score"], row["risk"], row["known_signs"], row["missing_signs"]) == (score, risk, 7, "")


def test_the_newest_good_value_of_the_hour_counts_in_any_unit_and_what_is_missing_is_named() -> None:
    readings = [
        reading("p", NOON - MINUTE, 30.0, "respiration_rate"),
        reading("p", NOON, 22.0, "respiration_rate"),
        reading("p", NOON + 59 * MINUTE, 16.0, "respiration_rate", place="ward"),
        reading("p", NOON + 59 * MINUTE, 12.0, "systolic_pressure", "kPa", place=None),
        reading("p", NOON + 30 * MINUTE, 102.4, "body_temperature", "[degF]"),
        reading("p", NOON + 31 * MINUTE, 30.0, "body_temperature", quality="bad"),
        reading("p", NOON, 20.0, "air_temperature"),
    ]
    before, row = ask(readings)
    assert (before["hour_start"], before["score"]) == (NOON - HOUR, 3)
    # 12 kPa are 90.007 mmHg; 102.4 °F are 39.1 °C.
    points = {name: row[f"{name}_points"] for name in ("respiration_rate", "systolic_pressure", "body_temperature")}
    assert points == {"respiration_rate": 0, "systolic_pressure": 3, "body_temperature": 2}
    assert (row["score"], row["known_signs"], row["place"]) == (5, 3, "ward")
    assert row["missing_signs"] == "consciousness,heart_rate,oxygen_flow,oxygen_saturation"


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 2**32).map(random.Random), st.integers(1, 2))
def test_the_query_equals_plain_python(
    tmp_path_factory: pytest.TempPathFactory, chance: random.Random, portions: int
) -> None:
    readings = tell_history(chance, 4)
    for patient in range(5):
        for _ in range(60):
            kind = chance.choice(list(PUBLISHED))
            value = chance.choice(PUBLISHED[kind])[0] + chance.choice([0, 0.04, 0.05, 0.5, -0.5])
            at = MIDNIGHT + chance.randrange(600) * timedelta(seconds=30)
            readings.append(
                reading(
                    f"p{patient}", at, value, kind, quality=chance.choice(["good", None, "bad"]),
                    place=chance.choice(["a", "b", None]),
                )
            )  # fmt: skip
    lakehouse = LakehouseResource(root=str(tmp_path_factory.mktemp("lakehouse")))
    write(lakehouse, readings)
    found = ask(readings)
    assert found == recompute(lakehouse, SPEC, portions=portions) != []
