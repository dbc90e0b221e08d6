"""Which of many texts are among a few: placeholders of ids, and names of nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute

from platform_assets.streaming.event_rules import BLANKS

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


def are_in(texts: Any, folded: frozenset[str]) -> npt.NDArray[np.bool_]:
    """Which of the texts are among these, as `event_rules.fold_text` compares them; a whole number as its digits."""
    if not isinstance(texts, pa.Array):
        texts = pa.array(texts)
    if pa.types.is_null(texts.type) or not pa.types.is_string(texts.type):
        texts = texts.cast(pa.string())
    trimmed = pa.compute.utf8_trim(texts, characters=BLANKS)
    found: npt.NDArray[np.bool_] = pa.compute.is_in(
        pa.compute.ascii_lower(trimmed), value_set=pa.array(sorted(folded), pa.string())
    ).to_numpy(zero_copy_only=False)
    return found
