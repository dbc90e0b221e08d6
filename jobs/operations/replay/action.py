"""The steps of a replay. Apart from what does them: the composition root is imported each minute, and lists them."""

from typing import Literal

ReplayAction = Literal["rehearse", "compare", "swap", "undo", "abandon"]
