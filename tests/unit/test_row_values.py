"""Values of a recorded row: what files write as a number, and nothing else that Python reads as one."""

from __future__ import annotations

import pytest

from jobs.simulator.row_values import RowError, as_number


@pytest.mark.parametrize(
    ("text", "number"), [("12", 12.0), (" -1.5 ", -1.5), ("+.5", 0.5), ("3.", 3.0), ("1e3", 1000.0), ("", None)]
)
def test_a_number_is_read(text: str, number: float | None) -> None:
    assert as_number("price", text) == number


@pytest.mark.parametrize("text", ["1_000", "１２", "٣", "0x10", "1,5", "infinity", "nan", "1e999", "."])
def test_any_other_text_is_refused_by_its_field(text: str) -> None:
    with pytest.raises(RowError, match="price is"):
        as_number("price", text)
