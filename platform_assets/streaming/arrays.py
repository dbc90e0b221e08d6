"""Types of columns as numpy holds them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]
"""Whole numbers, or times in microseconds since the epoch, one a record."""
