"""Columns as numpy holds them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pyarrow as pa

Int64s = npt.NDArray[np.int64]
"""Whole numbers, or times in microseconds since the epoch, one a record."""


def to_int64s(table: pa.Table, column: str) -> Int64s:
    """A column of whole numbers or times without nulls."""
    found: Int64s = table.column(column).cast("int64").to_numpy()
    return found
